"""What is exported and deployed: F and H behind one face."""

import torch
from torch import Tensor, nn

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
        statistics: str = "frozen",
    ) -> None:
        super().__init__()
        if not 0.0 <= blend <= 1.0:
            raise ConfigRefusal(f"blend={blend}", allowed="0 to 1", cure="0.5 is the paper's")
        if mode not in MODES:
            raise ConfigRefusal(f"mode={mode!r}", allowed=", ".join(MODES), cure="choose one of these words")
        self.denoiser = denoiser
        self.noise_extractor = noise_extractor
        self.mode = mode
        self.register_buffer("window_hu", torch.tensor([hu_window.lower, hu_window.upper], dtype=torch.float64))
        self.register_buffer("blend", torch.tensor(float(blend)))
        set_statistics(self, statistics)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images."""
        if self.mode == "generator":
            denoised: Tensor = self.denoiser(x)
        elif self.mode == "extractor":
            denoised = x - self.noise_extractor(x)
        else:
            denoised = self.blend * self.denoiser(x) + (1 - self.blend) * (x - self.noise_extractor(x))
        return denoised.clamp(-1.0, 1.0)
