"""Made-up patients: chests and abdomens of random anatomy, each one different.

Made from simple solids, and meant to hold what a denoiser meets: fat around muscle, lungs with branching
vessels, bone that starves rays, organs with lesions of low contrast, gas beside tissue, air and a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.phantom.abdomen import draw_abdomen
from iscl_monai.phantom.body import draw_hull, draw_ribs, draw_shoulder_blades, draw_spine, draw_sternum
from iscl_monai.phantom.canvas import Canvas, Floats, Organ
from iscl_monai.phantom.chest import draw_chest, lung_texture
from iscl_monai.phantom.lesions import Grid, Lesion, place_lesions

FIELD_MM = 346.0
"""Field of view that the anatomy's sizes are made for; smaller fields hold smaller patients."""
LARGEST_SCALE = 1.15
TEXTURE_HU = 3.0
LEVELS_MM = {"chest": (-85.0, 25.0), "abdomen": (-15.0, 70.0)}

_EVEN = (Organ.AIR, Organ.TABLE, Organ.SKIN, Organ.BONE, Organ.LUNG, Organ.BOWEL)
"""Without slow changes, or with ones of their own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Patient:
    """A patient without noise.

    Args:
        truth_hu: float32 (slice, row, column).
        organs: :class:`iscl_monai.phantom.canvas.Organ` of each voxel, 255 where several meet.
        lesions: what was put in, of known place and contrast.
        lesion_mask: number of the lesion that fills at least half of a voxel, else 0.
    """

    truth_hu: Floats
    organs: NDArray[np.uint8]
    lesions: tuple[Lesion, ...]
    lesion_mask: NDArray[np.uint8]


def draw_patient(
    rng: np.random.Generator,
    *,
    region: str,
    slices: int,
    size: int,
    spacing_mm: float,
    slice_mm: float,
    lesions: int = 8,
) -> Patient:
    """Draw one patient without noise.

    Args:
        rng: decides the patient.
        region: ``"chest"`` or ``"abdomen"``.
        slices: number of slices.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels; the body fills most of ``size * spacing_mm``.
        slice_mm: distance of slices.
        lesions: how many to put in, where there is room.

    Returns:
        Images, organs and lesions.
    """
    canvas = Canvas(
        slices=slices,
        size=size,
        spacing_mm=spacing_mm,
        slice_mm=slice_mm,
        level_mm=float(rng.uniform(*LEVELS_MM[region])),
        scale=min(LARGEST_SCALE, size * spacing_mm / FIELD_MM),
    )
    chest = region == "chest"
    hull = draw_hull(canvas, rng, chest=chest)
    (draw_chest if chest else draw_abdomen)(canvas, rng, hull)
    draw_ribs(canvas, rng, hull, chest=chest)
    if chest:
        draw_sternum(canvas, rng, hull)
        draw_shoulder_blades(canvas, rng, hull)
    draw_spine(canvas, rng, hull)
    _texture(canvas, rng, size)
    truth_hu, organs = canvas.picture(), canvas.organs()
    grid = Grid(slices=slices, size=size, spacing_mm=spacing_mm, slice_mm=slice_mm)
    placed, mask = place_lesions(rng, truth_hu, organs, grid, count=lesions)
    return Patient(truth_hu=truth_hu, organs=organs, lesions=placed, lesion_mask=mask)


def _texture(canvas: Canvas, rng: np.random.Generator, size: int) -> None:
    """Tissue is never even: slow changes in all of it, more in lungs and in spongy bone."""
    slices, fine, _ = canvas.hu.shape
    coarse = rng.standard_normal((slices, size, size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(coarse, (1, 3, 3), mode="wrap")
    smooth = np.repeat(np.repeat(smooth / smooth.std(), fine // size, 1), fine // size, 2)
    rough = ndimage.gaussian_filter(coarse, (0, 0.8, 0.8), mode="wrap")
    rough = np.repeat(np.repeat(rough / rough.std(), fine // size, 1), fine // size, 2)
    canvas.hu += np.where(np.isin(canvas.organ, _EVEN), 0, TEXTURE_HU * smooth).astype(np.float32)
    spongy = (canvas.organ == Organ.BONE) & (canvas.hu < 400)
    canvas.hu += np.where(spongy, 30 * rough, 0).astype(np.float32)
    lung_texture(canvas, smooth)
