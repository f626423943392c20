"""The projector's two loops, compiled by numba: the fast path on a CPU.

The same sums as :mod:`iscl_monai.scanner.torch_projector`, whose docstrings say what they mean. One slice at a time;
the compiled functions give up Python's lock, so slices run side by side in threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from iscl_monai.scanner.geometry import FanBeam

Image = NDArray[np.float32]


def forward_project(image: Image, geometry: FanBeam) -> Image:
    """As :func:`iscl_monai.scanner.torch_projector.forward_project`, of one image (row, column)."""
    sinogram = np.empty((geometry.views, geometry.detectors), np.float32)
    bordered = np.pad(image, 1)  # rays that graze the border meet zeros, not an exception
    angles = geometry.angles()
    source = geometry.source_to_centre_mm / geometry.spacing_mm
    cells = geometry.cells_mm() / geometry.spacing_mm
    _project(bordered, np.cos(angles), np.sin(angles), source, cells, sinogram)
    sinogram *= np.float32(geometry.spacing_mm)
    return sinogram


def backproject(rays: Image, geometry: FanBeam, *, oversampling: int, squared: bool = False) -> Image:
    """As :func:`iscl_monai.scanner.torch_projector.backproject`, of one sinogram (view, fine cell)."""
    quarter = geometry.views // 4
    # Four views a quarter turn apart share all arithmetic: they see the image turned by a quarter.
    together = np.ascontiguousarray(rays.reshape(4, quarter, -1).transpose(1, 2, 0))
    turned = np.zeros((geometry.size, geometry.size, 4), np.float32)
    angles = geometry.angles()[:quarter]
    source = geometry.source_to_centre_mm / geometry.spacing_mm
    scale = geometry.spacing_mm / geometry.pitch_mm * oversampling
    _backproject(together, np.cos(angles), np.sin(angles), source, scale, oversampling, squared, turned)
    # A quarter turn of the source, from x towards y, which points downwards: clockwise in the picture.
    image = sum(np.rot90(turned[..., k], -k) for k in range(4))
    return np.ascontiguousarray(image, np.float32)


@njit(nogil=True, cache=True, fastmath=True)
def _project(image, cosines, sines, source, cells, sinogram):  # type: ignore[no-untyped-def]  # pragma: no cover
    size = image.shape[0] - 2
    centre = (size - 1) / 2
    for view in range(len(cosines)):
        c, s = cosines[view], sines[view]
        x0, y0 = source * c, source * s
        for cell in range(len(cells)):
            dx, dy = -cells[cell] * s - x0, cells[cell] * c - y0
            along_x = abs(dx) > abs(dy)
            slope = dy / dx if along_x else dx / dy
            # Position across, in bordered pixels, at the step 0 along; both axes share the centre.
            start = (y0 + (-centre - x0) * slope if along_x else x0 + (-centre - y0) * slope) + centre + 1
            first, last = _steps_inside(start, slope, size)
            total = 0.0
            for step in range(first, last):
                across = start + step * slope
                low = int(across)
                part = across - low
                if along_x:
                    total += image[low, step + 1] * (1 - part) + image[low + 1, step + 1] * part
                else:
                    total += image[step + 1, low] * (1 - part) + image[step + 1, low + 1] * part
            sinogram[view, cell] = total * math.sqrt(1 + slope * slope)


@njit(nogil=True, cache=True)
def _steps_inside(start, slope, size):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Steps at which 0 <= start + step * slope < size + 1: between the borders of the bordered image."""
    first, last = 0, size
    if abs(slope) < 1e-12:
        return (first, last) if 0 <= start < size + 1 else (0, 0)
    one, other = -start / slope, (size + 1 - start) / slope
    low, high = min(one, other), max(one, other)
    first = max(first, math.ceil(min(max(low, -1.0), size + 1.0) + 1e-9))
    last = min(last, math.floor(min(max(high, -1.0), size + 1.0) - 1e-9) + 1)
    return first, last


@njit(nogil=True, cache=True, fastmath=True)
def _backproject(rays, cosines, sines, source, scale, oversampling, squared, turned):  # type: ignore[no-untyped-def]  # pragma: no cover
    size = turned.shape[0]
    centre = np.float32((size - 1) / 2)
    # Rounded down at the end, so a half on top makes it the nearest.
    middle = np.float32((rays.shape[1] // oversampling - 1) / 2 * oversampling + 0.5)
    last = rays.shape[1] - 1
    for view in range(len(cosines)):
        c, s = np.float32(cosines[view] / source), np.float32(sines[view] / source)
        sa, ca = np.float32(-sines[view] * scale), np.float32(cosines[view] * scale)
        fan = rays[view]
        for row in range(size):
            y = np.float32(row) - centre
            nearer = np.float32(1) - y * s
            across = y * ca
            for column in range(size):
                x = np.float32(column) - centre
                inverse = np.float32(1) / (nearer - x * c)
                weight = inverse * inverse
                if squared:
                    weight *= weight
                cell = min(max(int((across + x * sa) * inverse + middle), 0), last)
                for k in range(4):
                    turned[row, column, k] += weight * fan[cell, k]
