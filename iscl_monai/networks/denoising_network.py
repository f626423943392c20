"""What is exported and deployed: F and H behind one face."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks.blocks import symmetric_pad
from iscl_monai.networks.description import (
    KEY,
    GeneratorDescription,
    NetworkDescription,
    NoiseExtractorDescription,
    RedCNNDescription,
    ResidualUNetDescription,
    UNetDescription,
    UNetExtractorDescription,
)
from iscl_monai.networks.extractor import NoiseExtractor
from iscl_monai.networks.generator import Generator
from iscl_monai.networks.local import QUIET_OF_NOISE, local_mean, quiet_deviation
from iscl_monai.networks.normalization import set_statistics
from iscl_monai.networks.red_cnn import RedCNN
from iscl_monai.networks.residual_unet import ResidualUNetExtractor, ResidualUNetGenerator
from iscl_monai.networks.slice_noise import loudest_noise, soft_tissue
from iscl_monai.networks.unet import NoiseEstimator, NoiseUNet, UNetGenerator
from iscl_monai.weights import load_tensors, naming

MODES = ("ensemble", "generator", "extractor")

AIR_HU = -980.0
BREATH_HU = -930.0
"""Local means up to the first are air and left alone, from the second on tissue; between them is a ramp."""


class DenoisingNetwork(nn.Module):
    """``blend * F(x) + (1 - blend) * (x - H(x))``, clipped to [-1, 1] (Lee & Jeong 2021, prediction).

    Args:
        denoiser: the generator F, or the network of a baseline in its place.
        noise_extractor: the extractor H.
        hu_window: what [-1, 1] means in HU; kept with the weights, so that they are never used with another window.
        blend: weight of F; 0.5 in the paper. Kept with the weights, so that a validation may choose it.
        mode: ``ensemble`` blends both; ``generator`` is F alone; ``extractor`` is x - H(x) alone.
        keep_mean_px: what the denoiser takes away must have no local mean, over squares of so many pixels: the noise of
            CT has (next to) none, so what is there is a shift of Hounsfield values. Air, by the same local mean, is not
            touched at all. Odd; 0 leaves both out, as the paper.
        statistics: what normalisations use at inference, ``frozen`` or ``per_slice``.
        domain: what kind of images it is for, in whose unit the window is; kept with the weights.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out, 16 pixels or more each way. A slice's answer never depends on
        its neighbours in the batch. Sizes that F's strides do not divide are mirrored up to it, for F and H alike, so
        that tiles of a slice see what the whole slice sees.
    """

    __jit_unused_properties__ = ("hu_window", "reach_px", "wanted_noise_hu", "wanted_dose")

    blend: Tensor
    description: Tensor

    def __init__(
        self,
        *,
        denoiser: Generator | UNetGenerator | ResidualUNetGenerator | RedCNN,
        noise_extractor: NoiseExtractor | NoiseUNet | ResidualUNetExtractor,
        hu_window: HUWindow,
        blend: float = 0.5,
        mode: str = "ensemble",
        keep_mean_px: int = 9,
        statistics: str = "frozen",
        domain: str = "ct",
    ) -> None:
        super().__init__()
        if not 0.0 <= blend <= 1.0:
            raise ConfigRefusal(f"blend={blend}", allowed="0 to 1", cure="0.5 is the paper's")
        if keep_mean_px < 0 or (keep_mean_px > 0 and keep_mean_px % 2 == 0):
            raise ConfigRefusal(f"keep_mean_px={keep_mean_px}", allowed="0 or an odd number", cure="9 is our default")
        self.stride_px = math.lcm(
            denoiser.stride, noise_extractor.stride
        )  # slices are mirrored up to multiples of it, and tiles begin at its multiples
        self.keep_mean_px = keep_mean_px
        self.air_hu, self.breath_hu = AIR_HU, BREATH_HU  # TorchScript knows no globals
        self.darkest, self.brightest = soft_tissue(hu_window, domain)
        self.lower_hu, self.upper_hu = float(hu_window.lower), float(hu_window.upper)
        self.denoiser = denoiser
        self.noise_extractor = noise_extractor
        self.mode = checked_mode(mode)
        self.register_buffer("blend", torch.tensor(float(blend)))
        self.statistics, self.domain = statistics, domain
        set_statistics(self, statistics)
        description = NetworkDescription(
            hu_window=hu_window,
            denoiser=denoiser.description,
            noise_extractor=noise_extractor.description,
            keep_mean_px=keep_mean_px,
            statistics=statistics,
            domain=domain,
        )
        self.register_buffer(KEY, description.to_tensor())

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, Tensor], *, mode: str = "ensemble", domain: str = "ct"
    ) -> "DenoisingNetwork":
        """The network that weights belong to: they know its sizes, HU window and settings.

        Args:
            weights: a ``state_dict`` of this class.
            mode: see the class; an ensemble whose blend is 0 or 1 becomes the one network it consists of.
            domain: of the images at hand.

        Raises:
            CheckpointRefusal: weights that are not described, are of another version or domain, or are damaged.
            ConfigRefusal: an unknown mode.
        """
        mode = checked_mode(mode)
        described = NetworkDescription.of_weights(weights)
        described.check_domain(domain)
        try:
            network = cls(
                denoiser=_generator(described),
                noise_extractor=_extractor(described),
                hu_window=described.hu_window,
                keep_mean_px=described.keep_mean_px,
                statistics=described.statistics,
                domain=domain,
            )
            network.load_state_dict(dict(weights))
            if not 0.0 <= float(network.blend) <= 1.0:
                raise ValueError(f"blend {float(network.blend)}")
        except (ConfigRefusal, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointRefusal(
                f"weights that are not those of the network they describe ({' '.join(str(error).split())[:160]})",
                allowed="the model.pt of a training with this version",
                cure="copy the file again from where it was trained, or train again",
            ) from None
        # A blend of one network alone needs no other; some baselines train no other.
        alone = {1.0: "generator", 0.0: "extractor"}.get(float(network.blend), mode)
        network.mode = alone if mode == "ensemble" else mode
        return network

    @classmethod
    def from_file(cls, path: Path | str, *, mode: str = "ensemble", domain: str = "ct") -> "DenoisingNetwork":
        """The network that a file of weights belongs to, in evaluation mode.

        Args:
            path: a bundle's ``models/model.pt``, or any file of the same kind.
            mode: see :meth:`from_weights`.
            domain: likewise.

        Raises:
            CheckpointRefusal: no such file, or see :meth:`from_weights`; the file is named.
            ConfigRefusal: an unknown mode.
        """
        checked_mode(mode)
        if not Path(path).is_file():
            raise CheckpointRefusal(
                f"{path} does not exist",
                allowed="the model.pt of a training, or a bundle with released weights",
                cure="train first, or give --ckpt_dir the folder that holds it",
            )
        content = load_tensors(Path(path))
        with naming(path):
            return cls.from_weights(content, mode=mode, domain=domain).eval()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Every way of loading weights passes here: those of another network or HU window never get in unnoticed."""
        weights = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        own = NetworkDescription.of_weights({KEY: self.description})
        NetworkDescription.of_weights(weights).check_fits(own)
        # What may differ is what this network was built with, so its own description stays true.
        state_dict[prefix + KEY] = self.description
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def hu_window(self) -> HUWindow:
        """What [-1, 1] means."""
        return HUWindow(self.lower_hu, self.upper_hu)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        mean = 2 * (self.keep_mean_px // 2)
        return max(self.denoiser.reach_px, self.noise_extractor.reach_px) + mean

    @torch.jit.unused
    def want(self, *, noise_hu: float = 0.0, dose: float = 0.0) -> None:
        """Say how much noise an image shall keep, for networks that can be told so; goes with the weights.

        Args:
            noise_hu: to be left, as reports name it (:func:`iscl_monai.quality.noise.noise_sigma_hu`); places that are
                no louder are left alone. 0: none.
            dose: of the images, as a share of the dose that is wanted; 0: go by the noise.

        Raises:
            ConfigRefusal: networks that cannot be told, a negative noise, or a dose that is no share.
        """
        for network in (self.denoiser, self.noise_extractor):
            if not isinstance(network, NoiseEstimator):
                raise ConfigRefusal(
                    f"a wanted noise for a {type(network).__name__}",
                    allowed="UNetGenerator and NoiseUNet",
                    cure="leave the wanted noise out, or use weights that were trained with unet.json",
                )
            network.want(noise=QUIET_OF_NOISE * noise_hu * 2 / (self.upper_hu - self.lower_hu), dose=dose)

    @property
    def wanted_noise_hu(self) -> float | None:
        """Noise that an image keeps, in HU; None where a dose is wanted, or a network takes what it learnt to take."""
        network = self.noise_extractor if self.mode == "extractor" else self.denoiser
        if not isinstance(network, NoiseEstimator) or float(network.dose) > 0:
            return None
        return float(network.wanted_noise) / QUIET_OF_NOISE * (self.upper_hu - self.lower_hu) / 2

    @property
    def wanted_dose(self) -> float | None:
        """The dose whose noise an image keeps, over its own; None where none is wanted."""
        network = self.noise_extractor if self.mode == "extractor" else self.denoiser
        if not isinstance(network, NoiseEstimator) or float(network.dose) == 0:
            return None
        return 1 / float(network.dose)

    @torch.jit.export
    def loudest(self, x: Tensor) -> Tensor:
        """The noise that no place of whole slices exceeds (:func:`iscl_monai.networks.slice_noise.loudest_noise`).

        What a tile cannot see of its slice; of sizes that need no mirroring, as tiles are cut from.

        Returns:
            (batch, 1, 1, 1), in the units of ``x``; infinite where it cannot be told.
        """
        return loudest_noise(x, quiet_deviation(x), self.darkest, self.brightest)

    def forward(self, x: Tensor, loudest: Tensor | None = None) -> Tensor:
        """Denoise images.

        Args:
            x: the images.
            loudest: of the slices that tiles were cut from, as :meth:`loudest` gives it; None: these are whole slices.
        """
        padded = self.mirrored(x)
        answer = self.denoised(padded, self.noise_map(padded, loudest))
        return answer[..., : x.shape[-2], : x.shape[-1]]

    def denoised(self, x: Tensor, noise: Tensor) -> Tensor:
        """The answer to images whose sizes are multiples of ``stride_px``.

        Args:
            x: the images.
            noise: of each place, :meth:`noise_map`.
        """
        if self.mode == "generator":
            return self.finish(x, self.denoiser(x, noise=noise))
        if self.mode == "extractor":
            return self.finish(x, x - self.noise_extractor(x, noise=noise))
        y_hat = self.denoiser(x, noise=noise)
        y_bar = x - self.noise_extractor(x, noise=noise)
        return self.finish(x, self.blend * y_hat + (1 - self.blend) * y_bar)

    def modes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers of generator, extractor and ensemble, for the price of one ensemble."""
        padded = self.mirrored(x)
        noise = self.noise_map(padded, None)
        y_hat, y_bar = self.denoiser(padded, noise=noise), padded - self.noise_extractor(padded, noise=noise)
        ensemble = self.blend * y_hat + (1 - self.blend) * y_bar
        rows, columns = x.shape[-2], x.shape[-1]
        return (
            self.finish(padded, y_hat)[..., :rows, :columns],
            self.finish(padded, y_bar)[..., :rows, :columns],
            self.finish(padded, ensemble)[..., :rows, :columns],
        )

    def finish(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Give back the local mean that the prediction changed, leave air alone, and clip."""
        if self.keep_mean_px > 0:
            prediction = prediction - local_mean(prediction - x, self.keep_mean_px)
            prediction = x + self._tissue(x) * (prediction - x)
        return prediction.clamp(-1.0, 1.0)

    def noise_map(self, x: Tensor, loudest: Tensor | None) -> Tensor:
        """The noise of each place: what is seen nearby, but no more than the slice has; see :meth:`forward`."""
        noise = quiet_deviation(x)
        bound = loudest_noise(x, noise, self.darkest, self.brightest) if loudest is None else loudest
        return torch.minimum(noise, bound)

    def mirrored(self, x: Tensor) -> Tensor:
        """Images mirrored up to multiples of ``stride_px``, at the bottom and on the right."""
        return symmetric_pad(x, -x.shape[-2] % self.stride_px, -x.shape[-1] % self.stride_px)

    def _tissue(self, x: Tensor) -> Tensor:
        """0 in air, 1 in tissue, by the local mean: the window cuts the noise of air in half, whose mean would move."""
        # Only windows that begin at air can know it: at the end of another one any dark tissue would look like it.
        if self.lower_hu > self.air_hu:
            return torch.ones_like(x)
        mean_hu = (local_mean(x, self.keep_mean_px) + 1) / 2 * (self.upper_hu - self.lower_hu) + self.lower_hu
        return ((mean_hu - self.air_hu) / (self.breath_hu - self.air_hu)).clamp(0.0, 1.0)


def checked_mode(mode: str) -> str:
    """The mode, if there is one of that name.

    Raises:
        ConfigRefusal: if there is none.
    """
    if mode not in MODES:
        raise ConfigRefusal(f"mode={mode!r}", allowed=", ".join(MODES), cure="choose one of these words")
    return mode


def _generator(described: NetworkDescription) -> Generator | UNetGenerator | ResidualUNetGenerator | RedCNN:
    sizes = asdict(described.denoiser)
    match described.denoiser:
        case GeneratorDescription():
            return Generator(**sizes)
        case UNetDescription():
            return UNetGenerator(**sizes)
        case ResidualUNetDescription():
            return ResidualUNetGenerator(**sizes)
        case RedCNNDescription():
            return RedCNN(**sizes)


def _extractor(described: NetworkDescription) -> NoiseExtractor | NoiseUNet | ResidualUNetExtractor:
    sizes = asdict(described.noise_extractor)
    match described.noise_extractor:
        case NoiseExtractorDescription():
            return NoiseExtractor(**sizes)
        case UNetExtractorDescription():
            return NoiseUNet(**sizes)
        case _:
            return ResidualUNetExtractor(**sizes)
