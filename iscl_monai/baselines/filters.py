"""Classical filters, each with the paper it comes from; all but BM3D, which fills a module of its own.

The three from scikit-image need the extra ``evaluate``, and work in units of the HU window, 0 to 1.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from iscl_monai.baselines.bm3d import bm3d
from iscl_monai.baselines.classical import HU_WINDOW, ClassicalFilter, Slice
from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.skip import NonLocalSkip
from iscl_monai.networks.slice_noise import slice_noise

WIDTH_HU = HU_WINDOW.upper - HU_WINDOW.lower


class Gaussian(ClassicalFilter):
    """Blur: what every other filter has to beat.

    ``strength`` is the standard deviation in pixels at 10 HU of noise. It grows with the cube root of the noise, which
    is what balances blur (grows with its square) against noise (falls with it).
    """

    name = "gaussian"
    title = "Gaussian filter"
    tuned_strength = 0.35

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Average with a Gaussian weight."""
        return np.asarray(ndimage.gaussian_filter(image_hu, self.strength * (noise_hu / 10) ** (1 / 3), mode="nearest"))


class SigmaFilter(ClassicalFilter):
    """The mean of the neighbours in 5x5 pixels that differ by less than ``strength`` times the noise.

    J.-S. Lee, Computer Vision, Graphics and Image Processing 24:255-269, 1983.
    """

    name = "sigma"
    title = "Sigma filter"
    tuned_strength = 2.5
    settings = {"radius_px": "2"}  # noqa: RUF012

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Average those that are alike."""
        with torch.inference_mode():
            smoothed = sigma_filter(torch.from_numpy(image_hu)[None, None], torch.tensor(self.strength * noise_hu))
        return np.asarray(smoothed[0, 0].numpy())


class Bilateral(ClassicalFilter):
    """Neighbours weighted by distance in space and in HU.

    C. Tomasi, R. Manduchi, ICCV 1998, p. 839-846. ``strength`` times the noise is the standard deviation in HU.
    """

    name = "bilateral"
    title = "Bilateral filter"
    tuned_strength = 1.2
    spatial_px = 2.0
    settings = {"spatial_px": "2"}  # noqa: RUF012

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Average those that are near and alike."""
        share = self.strength * noise_hu / WIDTH_HU
        # Its table of weights needs positive values and steps well below the noise.
        filtered = restoration().denoise_bilateral(
            _to_share(image_hu), sigma_color=share, sigma_spatial=self.spatial_px, bins=20000, mode="edge"
        )
        return _to_hu(filtered)


class NonLocalMeans(ClassicalFilter):
    """Pixels weighted by how alike the patches around them are.

    A. Buades, B. Coll, J.-M. Morel, CVPR 2005, vol. 2, p. 60-65. ``strength`` times the noise is its ``h``; 5x5 patches
    within 13x13 pixels, the expected distance of noise alone subtracted.
    """

    name = "nlm"
    title = "Non-local means"
    tuned_strength = 0.6
    patch_px = 5
    reach_px = 6
    settings = {"patch_px": "5", "reach_px": "6"}  # noqa: RUF012

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Average those whose surroundings are alike."""
        share = noise_hu / WIDTH_HU
        filtered = restoration().denoise_nl_means(
            _to_share(image_hu),
            patch_size=self.patch_px,
            patch_distance=self.reach_px,
            h=self.strength * share,
            sigma=share,
            fast_mode=True,
        )
        return _to_hu(filtered)


class LocalNonLocalMeans(ClassicalFilter):
    """Non-local means whose strength follows the noise around each pixel, not that of the slice.

    The very filter that the trained F goes around its bottleneck by (:class:`iscl_monai.networks.skip.NonLocalSkip`):
    what training adds to it is the trained denoiser less this row.
    """

    name = "nlm-local"
    title = "Non-local means, local noise (F's skip)"
    tuned_strength = 1.35
    settings = {"patch_px": "5", "reach_px": "4"}  # noqa: RUF012

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Average those whose surroundings are alike; the noise of the slice is not looked at."""
        x = self.hu_window.to_network(torch.from_numpy(image_hu)[None, None])
        with torch.inference_mode():
            smoothed = NonLocalSkip(strength=self.strength).averaged(x, slice_noise(x, self.hu_window))
        return np.asarray(self.hu_window.to_hu(smoothed)[0, 0].numpy())


class TotalVariation(ClassicalFilter):
    """The image of least total variation that stays near.

    L. Rudin, S. Osher, E. Fatemi, Physica D 60:259-268, 1992; solved as A. Chambolle, J. Math. Imaging Vis. 20:89-97,
    2004. ``strength`` times the noise is the weight of the variation.
    """

    name = "tv"
    title = "Total variation"
    tuned_strength = 0.65
    settings = {"iterations": "200"}  # noqa: RUF012

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Flatten all but edges."""
        weight = self.strength * noise_hu / WIDTH_HU
        filtered = restoration().denoise_tv_chambolle(_to_share(image_hu), weight=weight, max_num_iter=200)
        return _to_hu(filtered)


class BM3D(ClassicalFilter):
    """Block matching and 3-D filtering, see :mod:`iscl_monai.baselines.bm3d`.

    It assumes white noise. In the correlated noise of CT the coefficients of coarse patterns hold more than the noise's
    variance, so ``strength`` times the noise is the sigma it is told.
    """

    name = "bm3d"
    title = "BM3D"
    tuned_strength = 1.15

    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Denoise stacks of similar patches."""
        return bm3d(image_hu, sigma=self.strength * noise_hu)


def _to_share(image_hu: Slice) -> Slice:
    return np.asarray((image_hu - HU_WINDOW.lower) / WIDTH_HU, np.float32)


def _to_hu(image: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(image * WIDTH_HU + HU_WINDOW.lower)


def restoration() -> ModuleType:
    """That of scikit-image, if it is installed."""
    try:
        from skimage import restoration
    except ModuleNotFoundError as error:
        raise ConfigRefusal(
            "a filter of scikit-image, which is not installed",
            allowed="gaussian, sigma and bm3d without it",
            cure='pip install "iscl-monai[evaluate]"',
        ) from error
    module: ModuleType = restoration
    return module


def sigma_filter(x: torch.Tensor, threshold: torch.Tensor, radius: int = 2) -> torch.Tensor:
    """The mean of those neighbours that differ by no more than a threshold.

    J.-S. Lee, Computer Vision, Graphics and Image Processing 24:255-269, 1983.

    Args:
        x: (batch, 1, rows, columns).
        threshold: in the units of ``x``, of a shape that goes with it.
        radius: of the square neighbourhood, in pixels.

    Returns:
        The shape of ``x``.
    """
    rows, columns = x.shape[-2], x.shape[-1]
    padded = torch.nn.functional.pad(x, [radius, radius, radius, radius], mode="reflect")
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    for row in range(2 * radius + 1):
        for column in range(2 * radius + 1):
            neighbour = padded[:, :, row : row + rows, column : column + columns]
            near = ((neighbour - x).abs() <= threshold).to(x.dtype)
            total = total + near * neighbour
            count = count + near
    return total / count
