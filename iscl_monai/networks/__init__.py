"""The five networks of ISCL and the denoiser that is made of two of them."""

from iscl_monai.networks.blocks import fold_normalisation, initialise
from iscl_monai.networks.denoiser import Denoiser
from iscl_monai.networks.discriminator import Discriminator
from iscl_monai.networks.extractor import NoiseExtractor
from iscl_monai.networks.generator import Generator
from iscl_monai.networks.normalization import BatchInstanceNorm2d, gather_statistics, project_rho, set_statistics

__all__ = [
    "BatchInstanceNorm2d",
    "Denoiser",
    "Discriminator",
    "Generator",
    "NoiseExtractor",
    "fold_normalisation",
    "gather_statistics",
    "initialise",
    "project_rho",
    "set_statistics",
]
