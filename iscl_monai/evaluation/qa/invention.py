"""What a denoiser paints that is neither in the object nor in its input, counted in blobs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.figures import InventionFigures
from iscl_monai.evaluation.qa.phantom import ANATOMY, Phantom
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.hallucination import hallucinations
from iscl_monai.quality.linearity import distance_mm_from

FLAT_HU, FLAT_MM = 20.0, 12.0
"""Where the truth varies less than this within so many mm (side of a square) it is no edge."""

SKIN_MM = 10.0
LESION_MM = 6.0
BLOB_MM = 3.0
AIR_HU = -900.0

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def invention(phantom: Phantom, name: str, before_hu: Volume, after_hu: Volume) -> InventionFigures:
    """Blobs in the mean over realisations against the truth, in flat parts inside the object and away from lesions.

    Those of the input are counted, too: where few photons arrive, the scan itself is wrong. A shift of everything is
    told by the rods and is no blob.

    Args:
        phantom: what was scanned.
        name: of the module.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.
    """
    module = phantom.modules[name]
    flat = flat_parts(phantom, name)[None]
    before, after = (
        hallucinations(
            _without_shift(scans_hu, module.truth_hu, flat[0])[:, None],
            module.truth_hu[None],
            pixel_spacing_mm=phantom.pixel_spacing_mm,
            blob_mm=BLOB_MM,
            flat=flat,
        )
        for scans_hu in (before_hu, after_hu)
    )
    return InventionFigures(
        module=name, before=len(before.blobs), after=len(after.blobs), low=after.low, high=after.high
    )


def _without_shift(scans_hu: Volume, truth_hu: Volume, flat: Mask) -> Volume:
    shifted: Volume = scans_hu - np.float32(np.median(scans_hu.mean(axis=0)[flat] - truth_hu[flat]))
    return shifted


def flat_parts(phantom: Phantom, name: str) -> Mask:
    """Inside of the object, without edges and lesions: bool (row, column)."""
    module = phantom.modules[name]
    size_px = 2 * round(FLAT_MM / 2 / phantom.spacing_mm) + 1
    truth = module.truth_hu
    spread = ndimage.maximum_filter(truth, size_px) - ndimage.minimum_filter(truth, size_px)
    flat = (spread < FLAT_HU) & (inside_of(phantom, name)) & (truth > AIR_HU)
    for lesion in module.facts.get("lesions", ()) if name in ANATOMY else ():
        row, column = lesion["centre_row_column"]
        away_mm = distance_mm_from((row, column), truth.shape, phantom.pixel_spacing_mm)
        flat &= away_mm > lesion["diameter_mm"] / 2 + LESION_MM
    return np.asarray(flat, np.bool_)


def inside_of(phantom: Phantom, name: str) -> Mask:
    """The object less a rim of 10 mm: bool (row, column)."""
    body = body_mask(phantom.modules[name].truth_hu)[0]
    depth_mm = ndimage.distance_transform_edt(body, sampling=phantom.spacing_mm)
    return np.asarray(depth_mm >= SKIN_MM, np.bool_)
