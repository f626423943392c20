"""Numbers against limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from iscl_monai.evaluation.qa.figures import (
    BorderFigures,
    CalcificationFigures,
    InsertFigures,
    LesionFigures,
    RobustnessFigures,
    TaskFigures,
    TissueFigures,
)
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.phantom import FULL_DOSE, LOW_CONTRAST
from iscl_monai.evaluation.qa.result import DoseResult, Status, Verdict, mean
from iscl_monai.quality.lesions import REMOVED_BELOW

SOFT_HU = 200.0
LARGE_MM, STRONG_HU = 5.0, 20.0
SEEN = 5.0
"""Signal to noise from which on a signal is seen: A. Rose, J. Opt. Soc. Am. 38, 1948, doi 10.1364/JOSA.38.000196."""

LEAST_SHARE = 0.2
"""Of the pixels of a kind of border, for a module to be judged by itself: the borders of a draw differ."""

EITHER_WAY = ("noise_frequency_shift_percent_max", "noise_grain_shift_percent_max")

Judged = tuple[str, str, float]
"""Name of the limit, what was measured in words, and its value."""


def verdicts(doses: Sequence[DoseResult], robustness: RobustnessFigures, limits: Limits) -> tuple[Verdict, ...]:
    """One verdict for each limit that is set, at each dose.

    Args:
        doses: measured, full dose among them.
        robustness: measured.
        limits: those that are None are left out.
    """
    full = next(result for result in doses if result.dose == FULL_DOSE)
    lowest = limits.lowest_dose or 0.0
    verdicts = [
        _verdict(limits, result.dose, *one, judged=result.dose >= lowest)
        for result in doses
        for one in _of_dose(result, full)
    ]
    verdicts += [_verdict(limits, None, *one, judged=True) for one in _of_all(robustness)]
    return tuple(verdict for verdict in verdicts if verdict is not None)


def worst_shift_hu(inserts: Sequence[InsertFigures], *, soft: bool) -> float:
    """Largest change of a mean by the denoiser, of rods within 200 HU of water or of the others."""
    return max((abs(one.shift_hu) for one in inserts if (abs(one.true_hu) <= SOFT_HU) == soft), default=math.nan)


def worst_sharpness(inserts: Sequence[InsertFigures]) -> float:
    """Least f50 ratio over the contrasts whose edge stands out; NaN if none does."""
    return min((one.f50_ratio for one in inserts if math.isfinite(one.f50_ratio)), default=math.nan)


def median_sharpness(inserts: Sequence[InsertFigures]) -> float:
    """Median f50 ratio over the contrasts whose edge stands out; NaN if none does.

    No largest one: with few realisations noise alone makes a faint edge sharper by an eighth.
    """
    ratios = [one.f50_ratio for one in inserts if math.isfinite(one.f50_ratio)]
    return median(ratios) if ratios else math.nan


def frequency_shift_percent(result: DoseResult, full: DoseResult) -> float:
    """Mean frequency of the noise after denoising, against that of the full-dose scan; negative is coarser."""
    return 100 * (result.texture_after.mean_per_mm / full.texture_before.mean_per_mm - 1)


def detectability_ratio(tasks: Iterable[TaskFigures]) -> float:
    """Mean d' after over mean d' before, for the diameter that comes out worst; NaN if nothing is seen before."""
    ordered = sorted(tasks, key=lambda task: task.diameter_mm)
    ratios = []
    for _, group in groupby(ordered, key=lambda task: task.diameter_mm):
        same = list(group)
        before = mean(task.before.d_prime for task in same)
        ratios.append(mean(task.after.d_prime for task in same) / before if before > 0 else math.nan)
    return min((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan)


def recovery(lesions: Iterable[LesionFigures]) -> float:
    """Mean over lesions of 20 HU and more, 5 mm and more."""
    return mean(one.recovered for one in lesions if abs(one.contrast_hu) >= STRONG_HU and one.diameter_mm >= LARGE_MM)


def hallucinations_per_slice(result: DoseResult) -> float:
    """Blobs beyond those of the input, mean over modules (each shows one slice)."""
    return mean(max(0, one.after - one.before) for one in result.invention)


def grain_shifts(result: DoseResult, full: DoseResult) -> Iterator[tuple[TissueFigures, float]]:
    """How much finer (above 0) the noise of each tissue is than that of the full-dose scan, percent."""
    before = {(one.module, one.tissue): one.grain_before for one in full.tissues}
    for one in result.tissues:
        yield one, 100 * (one.grain_after / before[one.module, one.tissue] - 1)


def faint_recovery(lesions: Iterable[LesionFigures]) -> float:
    """Mean over lesions of less than 20 HU, 5 mm and more."""
    return mean(one.recovered for one in lesions if abs(one.contrast_hu) < STRONG_HU and one.diameter_mm >= LARGE_MM)


def calcifications_seen(result: DoseResult) -> list[CalcificationFigures]:
    """Those that the scan itself shows."""
    return [one for one in result.calcifications if one.signal_to_noise >= SEEN]


def invented_per_scan(result: DoseResult) -> float:
    """Blobs of single outputs beyond those of the inputs, of the module with most."""
    return max(max(0.0, one.single_after - one.single_before) for one in result.invention)


def _of_dose(result: DoseResult, full: DoseResult) -> Iterator[Judged]:
    yield from _of_noise(result, full)
    yield from _of_sharpness(result)
    yield from _of_hounsfield_units(result)
    yield from _of_signals(result)
    yield (
        "hallucinations_per_slice_max",
        "blobs that stay from scan to scan, per slice, beyond the input's",
        hallucinations_per_slice(result),
    )
    yield "invented_per_scan_max", "blobs in a single output, beyond the input's", invented_per_scan(result)


def _of_noise(result: DoseResult, full: DoseResult) -> Iterator[Judged]:
    if result.dose < FULL_DOSE:
        everywhere = [*result.noise, *(one.noise for one in result.tissues if one.noise is not None)]
        least = min(everywhere, key=lambda one: one.reduction_percent)
        yield (
            "noise_reduction_percent_min",
            f"noise reduction, % (least: {_object_name(least.module)})",
            least.reduction_percent,
        )
    shift = frequency_shift_percent(result, full)
    yield "noise_frequency_shift_percent_max", "shift of the noise's mean frequency from full dose, water, %", shift
    grain = max((shift for _, shift in grain_shifts(result, full) if math.isfinite(shift)), key=abs, default=math.nan)
    yield (
        "noise_grain_shift_percent_max",
        "change of the noise's grain from full dose, anatomy (worst tissue), %",
        grain,
    )
    yield "own_noise_share_max", "share of the noise left that is not the input's, water", result.own_noise_share
    strength = max(one.strength_spread for one in result.steadiness)
    yield "strength_spread_max", "spread of the share of noise left, between scans of one object", strength
    brightness = max(one.brightness_spread_hu for one in result.steadiness)
    yield "brightness_spread_hu_max", "spread of brightness between scans of one object, HU", brightness
    yield "fixed_pattern_hu_max", "pattern that all outputs of water share, HU", result.fixed_pattern_hu
    yield "grey_steps_max", "steps of grey (0 none, 1 all)", max(result.grey_steps.values())


def _of_sharpness(result: DoseResult) -> Iterator[Judged]:
    inserts = result.accuracy.inserts
    yield "f50_ratio_min", "f50 after over without noise (worst contrast)", worst_sharpness(inserts)
    yield "f50_ratio_max", "f50 after over without noise (median of contrasts)", median_sharpness(inserts)
    for kind, steepness in border_steepness(result.borders).items():
        yield "border_steepness_min", f"steepness left of borders: {kind}", steepness
        yield "border_steepness_max", f"steepness left of borders (sharpened): {kind}", steepness
    yield "step_left_min", "step left from slice to slice", result.step_left
    yield "position_mm_max", "rods or anatomy moved, mm", max(result.moved_mm.values())


def border_steepness(borders: Sequence[BorderFigures]) -> dict[str, float]:
    """By kind of border, in the module where it differs most from 1.

    A module with less than ``LEAST_SHARE`` of a kind's pixels is judged together with the others, weighted by pixels,
    not alone: what it has are one or two thin structures, of which a filter takes more than of all other borders.
    """
    worst: dict[str, float] = {}
    for kind in dict.fromkeys(one.border for one in borders if math.isfinite(one.steepness)):
        known = [one for one in borders if one.border == kind and math.isfinite(one.steepness)]
        pixels = sum(one.pixels for one in known)
        together = sum(one.pixels * one.steepness for one in known) / pixels
        alone = [one.steepness for one in known if one.pixels >= LEAST_SHARE * pixels]
        worst[kind] = max(together, *alone, key=lambda value: abs(value - 1))
    return worst


def _of_hounsfield_units(result: DoseResult) -> Iterator[Judged]:
    accuracy = result.accuracy
    yield "bias_soft_hu_max", "shift of an insert within ±200 HU, HU", worst_shift_hu(accuracy.inserts, soft=True)
    yield "bias_other_hu_max", "shift of an insert beyond ±200 HU, HU", worst_shift_hu(accuracy.inserts, soft=False)
    for tissue in dict.fromkeys(one.tissue for one in result.tissues):
        shifts = [abs(one.shift_hu) for one in result.tissues if one.tissue == tissue]
        finite = [shift for shift in shifts if math.isfinite(shift)]
        yield "bias_anatomy_hu_max", f"shift of {tissue} in anatomy, HU", max(finite, default=math.nan)
    yield "slope_error_max", "slope of HU out against in, difference from 1", abs(accuracy.slope - 1)
    yield "uniformity_hu_max", "non-uniformity of water, HU", accuracy.uniformity_after_hu


def _of_signals(result: DoseResult) -> Iterator[Judged]:
    in_water = [task for task in result.tasks if task.module == LOW_CONTRAST]
    in_anatomy = [task for task in result.tasks if task.module != LOW_CONTRAST]
    yield "d_prime_ratio_min", "d' after over before, discs in water (worst size)", detectability_ratio(in_water)
    yield "d_prime_ratio_min", "d' after over before, lesions in anatomy (worst size)", detectability_ratio(in_anatomy)
    kept, faint = recovery(result.lesions), faint_recovery(result.lesions)
    yield "lesion_recovery_min", "contrast left of lesions", kept
    yield "lesion_recovery_max", "contrast left of lesions (enhanced)", kept
    yield "faint_recovery_min", "contrast left of lesions of 10 HU", faint
    yield "faint_recovery_max", "contrast left of lesions of 10 HU (enhanced)", faint
    yield "lesion_removed_share_max", "share of lesions removed", result.removed.count / result.removed.total
    seen = calcifications_seen(result)
    removed = sum(one.recovered < REMOVED_BELOW for one in seen) / len(seen) if seen else math.nan
    yield (
        "calcification_recovery_min",
        "contrast left of calcifications that the scan shows",
        mean(one.recovered for one in seen),
    )
    yield "calcification_removed_share_max", "share removed of calcifications that the scan shows", removed


def _of_all(robustness: RobustnessFigures) -> Iterator[Judged]:
    yield "full_dose_change_hu_max", "mean absolute change at full dose, HU", robustness.full_dose_change_hu
    yield "full_dose_psnr_db_min", "PSNR of output against input at full dose, dB", robustness.full_dose_psnr_db
    moved = max(robustness.padded_hu, robustness.cropped_hu)
    yield "field_of_view_hu_max", "change in the middle when the field of view changes, HU", moved
    yield "repeat_hu_max", "difference between two runs, HU", robustness.repeat_hu


def _verdict(
    limits: Limits, dose: float | None, limit: str, quantity: str, value: float, *, judged: bool
) -> Verdict | None:
    number: float | None = getattr(limits, limit)
    if number is None:
        return None
    least = limit.endswith("_min")
    status: Status = "not measurable"
    if not math.isnan(value):
        size = value if limit not in EITHER_WAY else abs(value)
        wish = limits.reasons[limit].kind == "wish"
        missed: Status = "wish missed" if wish else "fault"
        status = "pass" if (size >= number if least else size <= number) else missed
    return Verdict(
        limit=limit,
        quantity=quantity,
        dose=dose,
        value=value,
        kind=limits.reasons[limit].kind,
        allowed=f"{'at least' if least else 'at most'} {number:g}" + (" either way" if limit in EITHER_WAY else ""),
        status=status if judged else "not judged",
    )


def _object_name(module: str) -> str:
    return module.replace("_", " ")
