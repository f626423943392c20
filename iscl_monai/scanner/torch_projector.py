"""The projector in torch: the reference, and the way onto a GPU."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812

from iscl_monai.scanner.geometry import FanBeam


def forward_project(images: torch.Tensor, geometry: FanBeam) -> torch.Tensor:
    """Integrate images along rays.

    Source: Joseph, IEEE TMI 1(3):192-196, 1982. A ray visits each row (or column, whichever it crosses more often)
    once, where the image is interpolated linearly between the two nearest pixels.

    Args:
        images: (slice, row, column), ``geometry.size`` square, per mm; zero outside.
        geometry: where the rays run.

    Returns:
        Line integrals (slice, view, cell), without unit.
    """
    device, dtype = images.device, images.dtype
    size, centre = geometry.size, (geometry.size - 1) / 2
    source = geometry.source_to_centre_mm / geometry.spacing_mm
    cells = torch.from_numpy(geometry.cells_mm() / geometry.spacing_mm).to(device)
    step = (torch.arange(size, device=device) - centre)[:, None].double()
    sinogram = images.new_empty(len(images), geometry.views, geometry.detectors)
    for view, angle in enumerate(torch.from_numpy(geometry.angles()).to(device)):
        c, s = torch.cos(angle), torch.sin(angle)
        dx, dy = -cells * s - source * c, cells * c - source * s
        along_x = dx.abs() > dy.abs()
        slope = torch.where(along_x, dy / dx, dx / dy)
        across = torch.where(along_x, source * s, source * c)
        across = across + (step - torch.where(along_x, source * c, source * s)) * slope
        x, y = torch.where(along_x, step, across), torch.where(along_x, across, step)
        # Normalised coordinates of grid_sample run from -1 to 1 over the whole width.
        grid = (torch.stack([x, y], dim=-1) * (2 / size))[None].to(dtype)
        # Slices ride as channels, so that they share the cost of finding the neighbours.
        values = F.grid_sample(images[None], grid, mode="bilinear", align_corners=False)
        sinogram[:, view] = values[0].sum(dim=1) * (1 + slope**2).sqrt().to(dtype) * geometry.spacing_mm
    return sinogram


def backproject(rays: torch.Tensor, geometry: FanBeam, *, oversampling: int, squared: bool = False) -> torch.Tensor:
    """Sum, over views, the ray through each pixel, weighted by the distance from the source.

    Args:
        rays: (slice, view, fine cell), ``oversampling`` samples per cell; the nearest is taken.
        geometry: where the rays run.
        oversampling: see above.
        squared: square the weights, as variances want it.

    Returns:
        (slice, row, column), the unit of ``rays``: the sum of ``ray / U^2`` with ``U = (D - r) / D`` and ``r`` the
        pixel's distance from the isocentre towards the source. Source: Kak and Slaney, section 3.4.2.
    """
    device, size = rays.device, geometry.size
    axis = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    source = geometry.source_to_centre_mm / geometry.spacing_mm
    scale = geometry.spacing_mm / geometry.pitch_mm * oversampling
    middle = (geometry.detectors - 1) / 2 * oversampling + 0.5
    images = rays.new_zeros(len(rays), size * size)
    angles = torch.from_numpy(geometry.angles()).to(device)
    for view, (c, s) in enumerate(zip(torch.cos(angles).float(), torch.sin(angles).float(), strict=True)):
        inverse = 1 / (1 - axis[:, None] * (s / source) - axis * (c / source))
        position = (axis[:, None] * c - axis * s) * scale * inverse + middle
        weight = inverse**4 if squared else inverse**2
        cell = position.long().clamp(0, rays.shape[-1] - 1).flatten()
        images += rays[:, view].index_select(1, cell) * weight.flatten()
    return images.view(-1, size, size)
