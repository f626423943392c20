"""Parallel-beam projection and filtered backprojection in torch, as far as noise insertion needs them.

The geometry is a simplification: real scanners are fan-beam or helical. What noise insertion takes from it
is which rays are starved and how the noise of all rays mixes in the image; the level is calibrated on the
scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from iscl_monai.errors import ConfigRefusal

# Filtered rays are resampled this many times finer, so that backprojection may take the nearest sample:
# an error of at most 1/8 pixel costs 2.6 % of amplitude at Nyquist, where the Hann window is zero anyway.
_OVERSAMPLING = 4


@dataclass(frozen=True, kw_only=True)
class ParallelBeam:
    """Rays and pixels of one parallel-beam scan over 180 degrees.

    Ray ``(view, detector)`` meets the points ``x cos(angle) + y sin(angle) = t``, with x to the right
    (columns), y downwards (rows), both in mm from the image's centre.

    Args:
        rows: rows of the image.
        columns: columns of the image.
        spacing_mm: distance of pixels, and of detector cells.
        views: number of directions.

    Raises:
        ConfigRefusal: if a number is not positive.
    """

    rows: int
    columns: int
    spacing_mm: float
    views: int = 720

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.views) < 1 or not 0 < self.spacing_mm < math.inf:
            raise ConfigRefusal(
                f"parallel-beam geometry {self}",
                allowed="positive rows, columns, views and pixel spacing",
                cure="give the image's shape and its pixel spacing in mm",
            )

    @property
    def detectors(self) -> int:
        """Detector cells, enough for the image's diagonal (a multiple of 16, to allow coarser twins)."""
        return 16 * math.ceil((math.hypot(self.rows, self.columns) + 2) / 16)

    def angles(self) -> list[float]:
        """Directions in radians, at the middles of equal parts of a half turn."""
        return [math.pi * (view + 0.5) / self.views for view in range(self.views)]


def forward_project(images: torch.Tensor, geometry: ParallelBeam) -> torch.Tensor:
    """Integrate images along rays.

    Args:
        images: (slice, row, column), per mm, zero outside of the image.
        geometry: where the rays run; rows and columns as those of ``images``.

    Returns:
        Line integrals (slice, view, detector) without unit.
    """
    _, rows, columns = images.shape
    t = torch.arange(geometry.detectors, device=images.device) - (geometry.detectors - 1) / 2
    along = t[:, None]
    views = []
    for angle in geometry.angles():
        cos, sin = math.cos(angle), math.sin(angle)
        # Normalised coordinates of grid_sample run from -1 to 1 over the whole width or height.
        x = (t * cos - along * sin) * (2 / columns)
        y = (t * sin + along * cos) * (2 / rows)
        # Slices ride as channels, so that they share the cost of finding the neighbours.
        grid = torch.stack([x, y], dim=-1)[None].to(images.dtype)
        turned = F.grid_sample(images[None], grid, mode="bilinear", align_corners=False)
        views.append(turned[0].sum(dim=1))
    integrals: torch.Tensor = torch.stack(views, dim=1) * geometry.spacing_mm
    return integrals


def ramp_hann(geometry: ParallelBeam, samples: int) -> torch.Tensor:
    """Band-limited ramp times a Hann window that ends at the Nyquist frequency.

    Args:
        geometry: gives the detector spacing.
        samples: length of the padded rays, even.

    Returns:
        Response (samples // 2 + 1,) in 1/mm at the frequencies of ``torch.fft.rfft``. Source: Kak and Slaney,
        Principles of Computerized Tomographic Imaging, equation 61 in chapter 3 (the ramp's exact samples in
        space, which keep the mean right where sampled frequencies would not).
    """
    distance = torch.arange(samples, dtype=torch.float64)
    distance = torch.minimum(distance, samples - distance)
    kernel = torch.where(distance % 2 == 1, -1.0 / (math.pi * distance.clamp(min=1)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp = torch.fft.rfft(kernel).real / geometry.spacing_mm
    hann = 0.5 * (1 + torch.cos(math.pi * torch.linspace(0, 1, samples // 2 + 1, dtype=torch.float64)))
    response: torch.Tensor = (ramp * hann).float()
    return response


def _padded(geometry: ParallelBeam) -> int:
    """Length at which circular convolution no longer wraps into the image, and which transforms quickly."""
    power = 1 << (2 * geometry.detectors - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= 2 * geometry.detectors else power


def filter_rays(sinogram: torch.Tensor, geometry: ParallelBeam) -> torch.Tensor:
    """Filter rays and resample them ``_OVERSAMPLING`` times finer (band-limited, in the same two transforms).

    Args:
        sinogram: (slice, view, detector) line integrals.
        geometry: as given to :func:`forward_project`.

    Returns:
        (slice, view, fine detector), per mm.
    """
    samples = _padded(geometry)
    spectrum = torch.fft.rfft(sinogram, n=samples) * ramp_hann(geometry, samples).to(sinogram.device)
    fine: torch.Tensor = torch.fft.irfft(spectrum, n=samples * _OVERSAMPLING) * _OVERSAMPLING
    return fine[..., : geometry.detectors * _OVERSAMPLING]


def backproject(rays: torch.Tensor, geometry: ParallelBeam) -> torch.Tensor:
    """Sum over directions of the ray through each pixel, times the angle between directions.

    Args:
        rays: (slice, view, fine detector), ``_OVERSAMPLING`` samples per detector cell.
        geometry: where the rays run.

    Returns:
        (slice, row, column), the unit of ``rays``.
    """
    device = rays.device
    x = (torch.arange(geometry.columns, device=device) - (geometry.columns - 1) / 2) * _OVERSAMPLING
    y = (torch.arange(geometry.rows, device=device) - (geometry.rows - 1) / 2) * _OVERSAMPLING
    # The half makes the truncation to integers a rounding.
    centre = (geometry.detectors - 1) / 2 * _OVERSAMPLING + 0.5
    images = rays.new_zeros(rays.shape[0], geometry.rows * geometry.columns)
    for view, angle in enumerate(geometry.angles()):
        position = (y[:, None] * math.sin(angle) + centre) + x * math.cos(angle)
        images += rays[:, view].index_select(1, position.long().flatten())
    return images.view(-1, geometry.rows, geometry.columns) * (math.pi / geometry.views)


def filtered_backprojection(sinogram: torch.Tensor, geometry: ParallelBeam) -> torch.Tensor:
    """Reconstruct images, or noise images, with the ramp x Hann filter.

    Args:
        sinogram: (slice, view, detector) line integrals.
        geometry: where the rays run.

    Returns:
        (slice, row, column), per mm.
    """
    return backproject(filter_rays(sinogram, geometry), geometry)


def backproject_variance(variance: torch.Tensor, geometry: ParallelBeam) -> torch.Tensor:
    """Variance of :func:`filtered_backprojection` for independent noise of smoothly changing variance.

    Args:
        variance: (slice, view, detector) of the line integrals.
        geometry: where the rays run.

    Returns:
        (slice, row, column), per mm squared: the sum over views of the ray's variance times the filter's
        energy. Source: Parseval; rays a filter's width apart have nearly the same variance.
    """
    samples = _padded(geometry)
    response = ramp_hann(geometry, samples).double()
    energy = float((2 * response.square().sum() - response[0] ** 2 - response[-1] ** 2) / samples)
    rays = variance.repeat_interleave(_OVERSAMPLING, dim=-1)
    return backproject(rays, geometry) * (energy * math.pi / geometry.views)
