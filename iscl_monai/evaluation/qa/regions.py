"""Where in a test object things are measured: flat parts, tissues, borders; each mask is worked out once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.phantom import ANATOMY, Module, Phantom
from iscl_monai.phantom.canvas import Organ
from iscl_monai.phantom.rooms import depth_mm
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.linearity import distance_mm_from

FLAT_HU, FLAT_MM = 20.0, 12.0
"""Where the truth varies less than this within so many mm (side of a square) it is no edge."""

SKIN_MM = 10.0
SIGNAL_MM = 6.0
"""So far from lesions and calcifications nothing of them is seen."""

AIR_HU = -900.0

TISSUES: Mapping[str, tuple[Organ, ...]] = {
    "lung": (Organ.LUNG,),
    "fat": (Organ.FAT, Organ.INNER_FAT),
    "muscle": (Organ.MUSCLE,),
    "organs": (Organ.LIVER, Organ.SPLEEN, Organ.KIDNEY, Organ.HEART),
    "contrast medium": (Organ.VESSEL,),
    "bone": (Organ.BONE,),
}
TISSUE_HU = {"contrast medium": (110.0, np.inf), "bone": (250.0, np.inf)}
"""Of what counts as this tissue where its organ may be something else, such as blood, or marrow."""

CORE_MM = 3.0
"""A tissue is measured so far from its borders."""

BORDER_HU = {"organs and fat": 40.0, "contrast medium": 40.0, "bone": 80.0, "lung": 150.0, "vessels in lung": 80.0}
"""Kinds of borders, and how much the truth varies within 3 x 3 pixels of one, at least."""

NEAR_MM, APART_MM = 2.5, 4.5
LUNG_HU, LUNG_CLOSED_MM = -500.0, 7.0
SOFT_HU = 160.0

Mask = npt.NDArray[np.bool_]
Value = TypeVar("Value")


def kept(phantom: Phantom, what: str, name: str, make: Callable[[], Value]) -> Value:
    """Worked out at the first call, and remembered with the phantom."""
    if (what, name) not in phantom.regions:
        phantom.regions[what, name] = make()
    found: Value = phantom.regions[what, name]
    return found


def flat_parts(phantom: Phantom, name: str) -> Mask:
    """Inside of the object, without edges and signals: bool (row, column)."""
    return kept(phantom, "flat", name, lambda: _flat_parts(phantom, name))


def inside_of(phantom: Phantom, name: str) -> Mask:
    """The object less a rim of 10 mm: bool (row, column)."""
    return kept(phantom, "inside", name, lambda: _inside_of(phantom, name))


def body_of(phantom: Phantom, name: str) -> Mask:
    """The object without the table: bool (row, column)."""
    return kept(phantom, "body", name, lambda: body_mask(phantom.modules[name].truth_hu)[0])


def tissues(phantom: Phantom, name: str) -> Mapping[str, Mask]:
    """Of anatomy: the middle of each tissue, away from its borders and from signals; by name, bool (row, column)."""
    return kept(phantom, "tissues", name, lambda: _tissues(phantom, name))


def borders(phantom: Phantom, name: str) -> Mapping[str, Mask]:
    """Of anatomy: where the truth is steep, by what meets there; bool (row, column)."""
    return kept(phantom, "borders", name, lambda: _borders(phantom, name))


def signals_of(module: Module) -> Sequence[Mapping[str, Any]]:
    """Lesions and calcifications of anatomy, as ``truth.json`` names them."""
    return [*module.facts.get("lesions", ()), *module.facts.get("calcifications", ())]


def _flat_parts(phantom: Phantom, name: str) -> Mask:
    module = phantom.modules[name]
    size_px = 2 * round(FLAT_MM / 2 / phantom.spacing_mm) + 1
    truth = module.truth_hu
    spread = ndimage.maximum_filter(truth, size_px) - ndimage.minimum_filter(truth, size_px)
    flat = (spread < FLAT_HU) & inside_of(phantom, name) & (truth > AIR_HU)
    return flat & _away_from_signals(phantom, name) if name in ANATOMY else np.asarray(flat, np.bool_)


def _inside_of(phantom: Phantom, name: str) -> Mask:
    inside_mm = ndimage.distance_transform_edt(body_of(phantom, name), sampling=phantom.spacing_mm)
    return np.asarray(inside_mm >= SKIN_MM, np.bool_)


def _away_from_signals(phantom: Phantom, name: str) -> Mask:
    module = phantom.modules[name]
    away = np.ones(module.truth_hu.shape, np.bool_)
    for signal in signals_of(module):
        row, column = signal["centre_row_column"]
        away_mm = distance_mm_from((row, column), away.shape, phantom.pixel_spacing_mm)
        away &= away_mm > signal["diameter_mm"] / 2 + SIGNAL_MM
    return away


def _tissues(phantom: Phantom, name: str) -> dict[str, Mask]:
    module, away = phantom.modules[name], _away_from_signals(phantom, name)
    organs = _organs(module)
    found = {}
    for tissue, those in TISSUES.items():
        lowest, highest = TISSUE_HU.get(tissue, (-np.inf, np.inf))
        right = (module.truth_hu >= lowest) & (module.truth_hu <= highest)
        middle = np.zeros(away.shape, np.bool_)
        for organ in those:
            middle |= depth_mm(organs == organ, phantom.spacing_mm) >= CORE_MM
        found[tissue] = middle & right & away
    return found


def _borders(phantom: Phantom, name: str) -> dict[str, Mask]:
    module = phantom.modules[name]
    truth, organs = module.truth_hu, _organs(module)
    highest, lowest = ndimage.maximum_filter(truth, 3), ndimage.minimum_filter(truth, 3)
    # A border of little contrast is measured where no strong one smears into it.
    around_px = 2 * round(APART_MM / phantom.spacing_mm) + 1
    brightest, darkest = ndimage.maximum_filter(truth, around_px), ndimage.minimum_filter(truth, around_px)
    inside = inside_of(phantom, name) & _away_from_signals(phantom, name)

    def near(those: Mask) -> Mask:
        return np.asarray(ndimage.distance_transform_edt(~those, sampling=phantom.spacing_mm) <= NEAR_MM, np.bool_)

    lungs = ndimage.binary_closing(truth < LUNG_HU, iterations=round(LUNG_CLOSED_MM / phantom.spacing_mm))
    bone, enhanced = near(organs == Organ.BONE) & (highest > SOFT_HU), near((organs == Organ.VESSEL) & (truth > 110))
    in_lung = (depth_mm(lungs, phantom.spacing_mm) >= LUNG_CLOSED_MM) & ~bone
    airy = (lowest < LUNG_HU) & ~in_lung & ~bone
    where = {
        "organs and fat": ~enhanced & (darkest > -SOFT_HU) & (brightest < SOFT_HU),
        "contrast medium": enhanced & ~bone & (darkest > -SOFT_HU),
        "bone": bone & (lowest > -SOFT_HU),
        "lung": airy,
        "vessels in lung": in_lung,
    }
    return {kind: there & inside & (highest - lowest >= BORDER_HU[kind]) for kind, there in where.items()}


def _organs(module: Module) -> npt.NDArray[np.uint8]:
    assert module.organs is not None, "only anatomy has organs"
    return module.organs
