"""Signals of known place: can they still be told from their absence, and how much of their contrast is left.

Each is seen twice under the same noise, once with the signals and once without: reconstruction is linear, so what the
scanner shows of the signals alone, added or taken away, puts them in or takes them out exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.figures import CalcificationFigures, LesionFigures, TaskFigures
from iscl_monai.evaluation.qa.phantom import LOW_CONTRAST, Module, Phantom
from iscl_monai.quality.detectability import Detectability, hotelling, laguerre_gauss
from iscl_monai.quality.lesions import REMOVED_BELOW, Share, wilson
from iscl_monai.quality.linearity import distance_mm_from

WIDTH_OF_DIAMETER = 1.5
REACH_MM = 6.0
FAINT_HU = 20.0
"""Discs of more contrast are seen at any dose, and say nothing."""

QUICK_DIAMETERS_MM, QUICK_CONTRASTS_HU = (3.0, 5.0, 10.0), (10.0, 20.0)
MANY_PAIRS, SOME_PAIRS = 24, 10
COUNTED_HU = 20.0
POOLED_PX = 15
LEAST_NOISE_HU = 0.1

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """One module with and without its signals, under the same noise: HU (realisation, row, column)."""

    present_before_hu: Volume
    absent_before_hu: Volume
    present_after_hu: Volume
    absent_after_hu: Volume

    @property
    def added_hu(self) -> npt.NDArray[np.float64]:
        """What the signals add to the output, mean over realisations, HU (row, column)."""
        mean: npt.NDArray[np.float64] = (self.present_after_hu - self.absent_after_hu).mean(axis=0, dtype=np.float64)
        return mean


@dataclass(frozen=True, kw_only=True)
class _Signal:
    name: str
    centre: tuple[float, float]
    diameter_mm: float
    contrast_hu: float
    kind_mm: float
    kind_hu: float
    organ: str = ""
    shape: str = "disc"


def detectability(phantom: Phantom, name: str, seen: Seen) -> tuple[TaskFigures, ...]:
    """Detectability of each faint signal of a module, before and after.

    Channelised Hotelling observer with Laguerre-Gauss channels of 1.5 diameters: 5 with 24 pairs of images or more, 3
    with 10, else 2.

    Args:
        phantom: what was scanned.
        name: of the module.
        seen: its images.
    """
    figures = []
    for signal in _faint(phantom, phantom.modules[name]):
        before = _observed(phantom, signal, seen.present_before_hu, seen.absent_before_hu)
        after = _observed(phantom, signal, seen.present_after_hu, seen.absent_after_hu)
        figures.append(
            TaskFigures(
                module=name,
                name=signal.name,
                diameter_mm=signal.kind_mm,
                contrast_hu=signal.kind_hu,
                before=before,
                after=after,
            )
        )
    return tuple(figures)


def lesion_figures(phantom: Phantom, name: str, seen: Seen) -> tuple[LesionFigures, ...]:
    """What is left of each lesion: ``sum(d s) / sum(s^2)`` around it, d what it adds to the output, s to the input.

    Args:
        phantom: what was scanned.
        name: of the module.
        seen: its images.
    """
    module = phantom.modules[name]
    added_hu = seen.added_hu
    figures = []
    for signal in _signals(module):
        away_mm = distance_mm_from(signal.centre, added_hu.shape, phantom.pixel_spacing_mm)
        near = away_mm <= signal.diameter_mm / 2 + REACH_MM
        figures.append(
            LesionFigures(
                module=name,
                organ=signal.organ,
                diameter_mm=signal.kind_mm,
                contrast_hu=signal.kind_hu,
                shape=signal.shape,
                recovered=_recovered(added_hu, module, near),
            )
        )
    return tuple(figures)


def calcification_figures(phantom: Phantom, name: str, seen: Seen) -> tuple[CalcificationFigures, ...]:
    """What is left of each calcification, as of a lesion, and how clearly the scan itself shows it.

    Args:
        phantom: what was scanned.
        name: of the module.
        seen: its images.
    """
    module = phantom.modules[name]
    added_hu = seen.added_hu
    noise_hu = np.sqrt(ndimage.uniform_filter(seen.present_before_hu.var(axis=0, ddof=1), POOLED_PX))
    figures = []
    for facts in module.facts["calcifications"]:
        row, column = facts["centre_row_column"]
        near = distance_mm_from((row, column), added_hu.shape, phantom.pixel_spacing_mm) <= REACH_MM
        seen_by_noise = (module.signal_hu[near] / np.maximum(noise_hu[near], LEAST_NOISE_HU)).astype(np.float64)
        figures.append(
            CalcificationFigures(
                module=name,
                diameter_mm=float(facts["diameter_mm"]),
                signal_to_noise=float(np.sqrt((seen_by_noise**2).sum())),
                recovered=_recovered(added_hu, module, near),
            )
        )
    return tuple(figures)


def _recovered(added_hu: npt.NDArray[np.float64], module: Module, near: npt.NDArray[np.bool_]) -> float:
    expected = module.signal_hu[near].astype(np.float64)
    return float((added_hu[near] * expected).sum() / (expected**2).sum())


def removed_share(lesions: tuple[LesionFigures, ...]) -> Share:
    """How many of the lesions of 20 HU and more keep less than half of their contrast."""
    counted = [lesion for lesion in lesions if abs(lesion.contrast_hu) >= COUNTED_HU]
    return wilson(sum(lesion.recovered < REMOVED_BELOW for lesion in counted), len(counted))


def _observed(phantom: Phantom, signal: _Signal, present_hu: Volume, absent_hu: Volume) -> Detectability:
    reach_px = int(np.ceil((signal.diameter_mm / 2 + REACH_MM) / phantom.spacing_mm))
    top, left = (round(at) - reach_px for at in signal.centre)
    size = 2 * reach_px + 1
    place = (slice(None), slice(top, top + size), slice(left, left + size))
    pairs = len(present_hu)
    channels = laguerre_gauss(
        (size, size),
        count=5 if pairs >= MANY_PAIRS else 3 if pairs >= SOME_PAIRS else 2,
        width_mm=WIDTH_OF_DIAMETER * signal.diameter_mm,
        pixel_spacing_mm=phantom.pixel_spacing_mm,
        centre=(signal.centre[0] - top, signal.centre[1] - left),
    )
    # A dark signal is found as well as a bright one: the observer's template takes the sign.
    return hotelling(present_hu[place], absent_hu[place], channels)


def _faint(phantom: Phantom, module: Module) -> list[_Signal]:
    found = [signal for signal in _signals(module) if abs(signal.kind_hu) <= FAINT_HU]
    if phantom.thorough:
        return found
    some = [
        signal for signal in found if abs(signal.kind_hu) in QUICK_CONTRASTS_HU and signal.kind_mm in QUICK_DIAMETERS_MM
    ]
    return some if module.name == LOW_CONTRAST else [signal for signal in some if abs(signal.kind_hu) == FAINT_HU]


def _signals(module: Module) -> list[_Signal]:
    if module.name == LOW_CONTRAST:
        return [_disc(facts) for facts in module.facts["inserts"]]
    return [_lesion(facts) for facts in module.facts["lesions"]]


def _disc(facts: Mapping[str, Any]) -> _Signal:
    row, column = facts["centre_row_column"]
    diameter_mm, contrast_hu = 2 * float(facts["radius_mm"]), float(facts["hu"])
    return _Signal(
        name=facts["name"],
        centre=(row, column),
        diameter_mm=diameter_mm,
        contrast_hu=contrast_hu,
        kind_mm=diameter_mm,
        kind_hu=contrast_hu,
    )


def _lesion(facts: Mapping[str, Any]) -> _Signal:
    row, column = facts["centre_row_column"]
    return _Signal(
        name=f"{facts['diameter_mm']:g} mm {facts['contrast_hu']:+g} HU {facts['shape']}, {facts['organ']}",
        centre=(row, column),
        diameter_mm=float(facts["diameter_mm"]),
        contrast_hu=float(facts["contrast_hu"]),
        kind_mm=float(facts["kind_mm"]),
        kind_hu=float(facts["kind_hu"]),
        organ=facts["organ"],
        shape=facts["shape"],
    )
