"""How sharp an edge of a given contrast is shown: the task transfer function (TTF) of a disc insert.

A denoiser is not linear, so its sharpness depends on the contrast and the noise: measure each insert at each dose.
S. Richard et al., "Towards task-based assessment of CT performance", Med. Phys. 39(7), 2012, doi 10.1118/1.4725171;
AAPM TG-233, doi 10.1002/mp.13763.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.signal import windows

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.linearity import Floats, distance_mm_from, finite_array, require_inside

LOWEST_EDGE_CNR = 15.0
BINS_PER_PIXEL = 10
REACH_PX = 10.0
REACH_OF_RADIUS = 0.75
FREQUENCIES = 201
CENTRING_STEPS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskTransferFunction:
    """The share of each spatial frequency that an edge of this contrast keeps.

    Args:
        frequency_per_mm: ascending from 0 to the Nyquist frequency of the wider pixel distance.
        value: magnitude, 1 at frequency 0; above 1 where edges are enhanced. The pixel's own blur is part of it.
        f50_per_mm: where it first falls to 0.5; NaN if it does not.
        f10_per_mm: where it first falls to 0.1; NaN if it does not.
        contrast_hu: insert minus surroundings, signed.
        edge_cnr: size of the contrast over the noise of the averaged slices.
        centre: (row, column) the radii were taken from.
    """

    frequency_per_mm: Floats
    value: Floats
    f50_per_mm: float
    f10_per_mm: float
    contrast_hu: float
    edge_cnr: float
    centre: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Disc:
    centre: tuple[float, float]
    radius_mm: float
    reach_mm: float
    pixel_spacing_mm: tuple[float, float]

    def distance_mm(self, shape: tuple[int, ...]) -> Floats:
        return distance_mm_from(self.centre, shape, self.pixel_spacing_mm)


def task_transfer(
    slices_hu: npt.ArrayLike,
    *,
    centre: tuple[float, float],
    radius_mm: float,
    pixel_spacing_mm: tuple[float, float],
    reach_mm: float | None = None,
    fit_centre: bool = True,
    monotone: bool = False,
    lowest_cnr: float = LOWEST_EDGE_CNR,
) -> TaskTransferFunction:
    """TTF of a disc insert: pixels over radius -> edge spread -> line spread -> Fourier transform.

    Args:
        slices_hu: HU (slice, row, column) or (row, column): repeats of the same insert, averaged first.
        centre: (row, column) of the insert in pixels.
        radius_mm: of the insert.
        pixel_spacing_mm: between rows, between columns.
        reach_mm: how far to both sides of the edge to look, less than the radius; nothing else may lie there.
            None: three quarters of the radius, at most 10 pixels. Wider takes in more noise.
        fit_centre: move the centre to the insert's centre of mass first.
        monotone: force the edge spread to rise or fall only: less noise, but it hides the overshoot of sharp kernels.
        lowest_cnr: the edge CNR asked for; TG-233 asks for 15.

    Raises:
        ImageRefusal: if insert and reach are not inside the image, no disc is there, its edge CNR is too low, or
            values are not finite.
    """
    image = finite_array(slices_hu, 3).mean(axis=0)
    reach = min(REACH_OF_RADIUS * radius_mm, REACH_PX * max(pixel_spacing_mm)) if reach_mm is None else reach_mm
    if not 0 < reach < radius_mm:
        raise ImageRefusal(
            f"reach_mm {reach} at an insert of radius {radius_mm} mm",
            allowed="more than 0 and less than the radius",
            cure="leave reach_mm out",
        )
    disc = _Disc(centre=centre, radius_mm=radius_mm, reach_mm=reach, pixel_spacing_mm=pixel_spacing_mm)
    contrast_hu, edge_cnr = _edge(image, disc, lowest_cnr)
    if fit_centre:
        disc = _centred(image, disc)
        contrast_hu, edge_cnr = _edge(image, disc, lowest_cnr)
    frequency, value = _transfer(image, disc, contrast_hu, monotone)
    return TaskTransferFunction(
        frequency_per_mm=frequency,
        value=value,
        f50_per_mm=_first_at(frequency, value, 0.5),
        f10_per_mm=_first_at(frequency, value, 0.1),
        contrast_hu=contrast_hu,
        edge_cnr=edge_cnr,
        centre=disc.centre,
    )


def _edge(image: Floats, disc: _Disc, lowest_cnr: float) -> tuple[float, float]:
    """Contrast (HU) and its ratio to the noise, from the flats half a reach and more away from the edge."""
    require_inside(image.shape, disc.centre, disc.radius_mm + disc.reach_mm, disc.pixel_spacing_mm)
    distance = disc.distance_mm(image.shape) - disc.radius_mm
    inner = image[distance <= -disc.reach_mm / 2]
    outer = image[(distance >= disc.reach_mm / 2) & (distance <= disc.reach_mm)]
    if min(inner.size, outer.size) < 2:
        raise ImageRefusal(
            f"an insert of radius {disc.radius_mm:g} mm with {inner.size} pixels inside and {outer.size} around it",
            allowed="at least 2 each",
            cure="use a larger insert or smaller pixels",
        )
    contrast_hu = float(inner.mean() - outer.mean())
    sigma_hu = float(np.sqrt((inner.var() + outer.var()) / 2))
    edge_cnr = abs(contrast_hu) / sigma_hu if sigma_hu > 0 else (np.inf if contrast_hu else 0.0)
    if edge_cnr < lowest_cnr:
        raise ImageRefusal(
            f"an edge of {contrast_hu:.1f} HU in noise of {sigma_hu:.1f} HU (CNR {edge_cnr:.1f}) at {disc.centre}",
            allowed=f"an edge CNR of {lowest_cnr:g} or more (AAPM TG-233)",
            cure="average more slices, use an insert of more contrast, or check where the insert is",
        )
    return contrast_hu, edge_cnr


def _centred(image: Floats, disc: _Disc) -> _Disc:
    """The disc moved to the centre of mass of what rises above its surroundings."""
    given = disc.centre
    rows, columns = np.indices(image.shape)
    for _ in range(CENTRING_STEPS):
        distance = disc.distance_mm(image.shape) - disc.radius_mm
        around = (distance >= disc.reach_mm / 2) & (distance <= disc.reach_mm)
        mass = np.where(distance < disc.reach_mm / 2, image - image[around].mean(), 0.0)
        centre = (float((mass * rows).sum() / mass.sum()), float((mass * columns).sum() / mass.sum()))
        moved_mm = math.dist(
            *([at * mm for at, mm in zip(place, disc.pixel_spacing_mm, strict=True)] for place in (centre, given))
        )
        if not moved_mm < disc.radius_mm / 2:
            raise ImageRefusal(
                f"an insert said to be at {given} whose centre of mass is at {centre}",
                allowed="a centre less than half a radius off, and nothing else within reach of the edge",
                cure="give the insert's centre as (row, column) in pixels",
            )
        disc = _Disc(
            centre=centre, radius_mm=disc.radius_mm, reach_mm=disc.reach_mm, pixel_spacing_mm=disc.pixel_spacing_mm
        )
    return disc


def _transfer(image: Floats, disc: _Disc, contrast_hu: float, monotone: bool) -> tuple[Floats, Floats]:
    """Frequencies per mm, and the transform of the line spread there, both of shape (frequency,)."""
    step = max(disc.pixel_spacing_mm) / BINS_PER_PIXEL
    radius, edge = _edge_spread(image, disc, step)
    if monotone:
        edge = np.asarray(optimize.isotonic_regression(edge, increasing=contrast_hu < 0).x, np.float64)
    middle = (radius[1:] + radius[:-1]) / 2
    line = np.diff(edge)
    # The flat half of the window keeps the whole line spread, the tapered half drops noise where nothing should be.
    line *= windows.tukey(len(line), 0.5)
    frequency = np.linspace(0, 0.5 / max(disc.pixel_spacing_mm), FREQUENCIES)
    waves = np.exp(-2j * np.pi * frequency[:, None] * middle[None, :])
    value = np.abs(waves @ line)
    # Means over bins and differences of bins blur as boxes of one bin: known, so undone.
    value /= value[0] * np.sinc(frequency * step) ** 2
    return frequency, value


def _edge_spread(image: Floats, disc: _Disc, step_mm: float) -> tuple[Floats, Floats]:
    """Mean HU over evenly spaced radii (mm)."""
    distance = disc.distance_mm(image.shape)
    near = np.abs(distance - disc.radius_mm) <= disc.reach_mm
    bins = np.floor((distance[near] - disc.radius_mm + disc.reach_mm) / step_mm).astype(int)
    count = np.bincount(bins)
    held = count > 0
    radius, edge = (np.bincount(bins, values)[held] / count[held] for values in (distance[near], image[near]))
    even = np.arange(radius[0], radius[-1], step_mm)
    return even, np.interp(even, radius, edge)


def _first_at(frequency: Floats, value: Floats, level: float) -> float:
    """Where a curve first falls to ``level``, between its points on a straight line; NaN if nowhere."""
    below = np.flatnonzero(value <= level)
    if below.size == 0 or below[0] == 0:
        return float("nan")
    left, right = below[0] - 1, below[0]
    share = (value[left] - level) / (value[left] - value[right])
    return float(frequency[left] + share * (frequency[right] - frequency[left]))
