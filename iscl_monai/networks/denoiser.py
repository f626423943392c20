"""What is exported and deployed: F and H behind one face."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks.extractor import NoiseExtractor
from iscl_monai.networks.generator import Generator
from iscl_monai.networks.normalization import set_statistics

MODES = ("ensemble", "generator", "extractor")


class Denoiser(nn.Module):
    """``blend * F(x) + (1 - blend) * (x - H(x))``, clipped to [-1, 1] (Lee & Jeong 2021, prediction).

    Args:
        denoiser: the generator F.
        noise_extractor: the extractor H.
        hu_window: what [-1, 1] means in HU; kept with the weights, so that they are never used with another window.
        blend: weight of F; 0.5 in the paper. Kept with the weights, so that a validation may choose it.
        mode: ``ensemble`` blends both; ``generator`` is F alone; ``extractor`` is x - H(x) alone.
        keep_mean_px: what the denoiser takes away must have no local mean, over squares of so many pixels: the noise of
            CT has (next to) none, so what is there is a shift of Hounsfield values. Odd; 0 leaves it out, as the paper.
        statistics: what normalisations use at inference, ``frozen`` or ``per_slice``.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out. A slice's answer never depends on its neighbours in the batch.
    """

    blend: Tensor
    window_hu: Tensor

    def __init__(
        self,
        *,
        denoiser: Generator,
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
        self.keep_mean_px = keep_mean_px
        self.denoiser = denoiser
        self.noise_extractor = noise_extractor
        self.mode = mode
        self.register_buffer("window_hu", torch.tensor([hu_window.lower, hu_window.upper], dtype=torch.float64))
        self.register_buffer("blend", torch.tensor(float(blend)))
        set_statistics(self, statistics)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images."""
        if self.mode == "generator":
            return self.finish(x, self.denoiser(x))
        if self.mode == "extractor":
            return self.finish(x, x - self.noise_extractor(x))
        return self.modes(x)[2]

    def modes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers of generator, extractor and ensemble, for the price of one ensemble."""
        y_hat, y_bar = self.denoiser(x), x - self.noise_extractor(x)
        ensemble = self.blend * y_hat + (1 - self.blend) * y_bar
        return self.finish(x, y_hat), self.finish(x, y_bar), self.finish(x, ensemble)

    def finish(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Give back the local mean that the prediction changed, and clip."""
        if self.keep_mean_px > 0:
            prediction = prediction - local_mean(prediction - x, self.keep_mean_px)
        return prediction.clamp(-1.0, 1.0)


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
