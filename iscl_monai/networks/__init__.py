"""The five networks of ISCL, the denoiser made of two of them, and a baseline's network."""

from iscl_monai.networks.blocks import fold_normalisation, initialise
from iscl_monai.networks.denoising_network import DenoisingNetwork
from iscl_monai.networks.description import NetworkDescription
from iscl_monai.networks.discriminator import Discriminator
from iscl_monai.networks.extractor import NoiseExtractor
from iscl_monai.networks.generator import Generator
from iscl_monai.networks.normalization import BatchInstanceNorm2d, gather_statistics, project_rho, set_statistics
from iscl_monai.networks.red_cnn import RedCNN
from iscl_monai.networks.residual_unet import ResidualUNetExtractor, ResidualUNetGenerator
from iscl_monai.networks.unet import NoiseUNet, UNetGenerator

__all__ = [
    "BatchInstanceNorm2d",
    "DenoisingNetwork",
    "Discriminator",
    "Generator",
    "NetworkDescription",
    "NoiseExtractor",
    "NoiseUNet",
    "RedCNN",
    "ResidualUNetExtractor",
    "ResidualUNetGenerator",
    "UNetGenerator",
    "fold_normalisation",
    "gather_statistics",
    "initialise",
    "project_rho",
    "set_statistics",
]
