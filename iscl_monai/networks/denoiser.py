"""What is exported and deployed: F and H behind one face."""

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks.blocks import symmetric_pad
from iscl_monai.networks.extractor import NoiseExtractor
from iscl_monai.networks.generator import SKIPS, Generator
from iscl_monai.networks.normalization import STATISTICS, set_statistics
from iscl_monai.networks.red_cnn import RedCNN

MODES = ("ensemble", "generator", "extractor")
SIZES_FORMAT = 1

AIR_HU = -980.0
BREATH_HU = -930.0
"""Local means up to the first are air and left alone, from the second on tissue; between them is a ramp."""


class Denoiser(nn.Module):
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

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out, 16 pixels or more each way. A slice's answer never depends on
        its neighbours in the batch. Sizes that F's strides do not divide are mirrored up to it, for F and H alike, so
        that tiles of a slice see what the whole slice sees.
    """

    __jit_unused_properties__ = ("hu_window", "reach_px")

    blend: Tensor
    window_hu: Tensor
    sizes: Tensor

    def __init__(
        self,
        *,
        denoiser: Generator | RedCNN,
        noise_extractor: NoiseExtractor,
        hu_window: HUWindow,
        blend: float = 0.5,
        mode: str = "ensemble",
        keep_mean_px: int = 9,
        statistics: str = "frozen",
    ) -> None:
        super().__init__()
        if not 0.0 <= blend <= 1.0:
            raise ConfigRefusal(f"blend={blend}", allowed="0 to 1", cure="0.5 is the paper's")
        if mode not in MODES:
            raise ConfigRefusal(f"mode={mode!r}", allowed=", ".join(MODES), cure="choose one of these words")
        if keep_mean_px < 0 or (keep_mean_px > 0 and keep_mean_px % 2 == 0):
            raise ConfigRefusal(f"keep_mean_px={keep_mean_px}", allowed="0 or an odd number", cure="9 is our default")
        self.stride_px = denoiser.stride  # slices are mirrored up to multiples of it, and tiles begin at its multiples
        self.keep_mean_px = keep_mean_px
        self.air_hu, self.breath_hu = AIR_HU, BREATH_HU  # TorchScript knows no globals
        self.denoiser = denoiser
        self.noise_extractor = noise_extractor
        self.mode = mode
        self.register_buffer("window_hu", torch.tensor([hu_window.lower, hu_window.upper], dtype=torch.float64))
        self.register_buffer("blend", torch.tensor(float(blend)))
        self.statistics = statistics
        set_statistics(self, statistics)
        settings = (keep_mean_px, STATISTICS.index(statistics))
        sizes = [SIZES_FORMAT, *denoiser.sizes, *noise_extractor.sizes, *settings]
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.int64))

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], *, mode: str = "ensemble") -> "Denoiser":
        """The denoiser that weights belong to: they know its sizes, HU window and settings.

        Args:
            weights: a ``state_dict`` of this class.
            mode: see the class; an ensemble whose blend is 0 or 1 becomes the one network it consists of.

        Raises:
            CheckpointRefusal: weights that do not tell.
        """
        try:
            told = cls.settings_of(weights["sizes"])
            network = cls(
                denoiser=_generator(told, weights),
                noise_extractor=NoiseExtractor(width=told["extractor_width"], layers=told["extractor_layers"]),
                hu_window=HUWindow(*weights["window_hu"].tolist()),
                mode=mode,
                keep_mean_px=int(weights["sizes"][-2]),
                statistics=STATISTICS[int(weights["sizes"][-1])],
            )
            network.load_state_dict(dict(weights))
            if not 0.0 <= float(network.blend) <= 1.0:
                raise ValueError(f"blend {float(network.blend)}")
            # A blend of one network alone needs no other; some baselines train no other.
            if mode == "ensemble" and float(network.blend) in (0.0, 1.0):
                network.mode = "generator" if float(network.blend) == 1.0 else "extractor"
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointRefusal(
                f"weights that do not say what network they belong to ({' '.join(str(error).split())[:160]})",
                allowed="the model.pt of a training with this version",
                cure="train or export again",
            ) from None
        return network

    @staticmethod
    def settings_of(sizes: Tensor) -> dict[str, Any]:
        """What a ``sizes`` buffer says in the words of the bundle's settings; only what decides about tensors.

        Raises:
            ValueError: if it is of another format.
        """
        version, width, downsamplings, blocks, skip, extractor_width, layers, _, _ = sizes.tolist()
        if version != SIZES_FORMAT:
            raise ValueError(f"sizes of format {version}")
        return {
            "width": width,
            "downsamplings": downsamplings,
            "residual_blocks": blocks,
            "skip": SKIPS[skip],
            "extractor_width": extractor_width,
            "extractor_layers": layers,
        }

    @property
    def hu_window(self) -> HUWindow:
        """What [-1, 1] means."""
        lower, upper = self.window_hu.tolist()
        return HUWindow(lower, upper)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        mean = 2 * (self.keep_mean_px // 2)
        return max(self.denoiser.reach_px, self.noise_extractor.reach_px) + mean

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images."""
        padded = self._mirrored(x)
        if self.mode == "generator":
            answer = self.finish(padded, self.denoiser(padded))
        elif self.mode == "extractor":
            answer = self.finish(padded, padded - self.noise_extractor(padded))
        else:
            return self.modes(x)[2]
        return answer[..., : x.shape[-2], : x.shape[-1]]

    def modes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers of generator, extractor and ensemble, for the price of one ensemble."""
        padded = self._mirrored(x)
        y_hat, y_bar = self.denoiser(padded), padded - self.noise_extractor(padded)
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

    def _mirrored(self, x: Tensor) -> Tensor:
        return symmetric_pad(x, -x.shape[-2] % self.stride_px, -x.shape[-1] % self.stride_px)

    def _tissue(self, x: Tensor) -> Tensor:
        """0 in air, 1 in tissue, by the local mean: the window cuts the noise of air in half, whose mean would move."""
        lower, upper = self.window_hu[0].to(x.dtype), self.window_hu[1].to(x.dtype)
        mean_hu = (local_mean(x, self.keep_mean_px) + 1) / 2 * (upper - lower) + lower
        # Only windows that begin at air can know it: at the end of another one any dark tissue would look like it.
        knows_no_air = (lower > self.air_hu).to(x.dtype)
        ramp = ((mean_hu - self.air_hu) / (self.breath_hu - self.air_hu)).clamp(0.0, 1.0)
        return torch.maximum(ramp, knows_no_air)


def _generator(told: Mapping[str, Any], names: Container[str]) -> Generator | RedCNN:
    """F as its weights describe it: by its sizes, and by the names of its tensors."""
    if "denoiser.encoder.0.weight" in names:
        return RedCNN(width=told["width"])
    return Generator(
        width=told["width"],
        downsamplings=told["downsamplings"],
        residual_blocks=told["residual_blocks"],
        skip=told["skip"],
    )


def local_mean(image: Tensor, side: int) -> Tensor:
    """Twice the moving average over ``side`` x ``side`` pixels; at the border over what is there.

    Args:
        image: (batch, 1, rows, columns).
        side: odd.
    """
    for _ in range(2):
        image = avg_pool2d(image, [side, 1], stride=1, padding=[side // 2, 0], count_include_pad=False)
        image = avg_pool2d(image, [1, side], stride=1, padding=[0, side // 2], count_include_pad=False)
    return image
