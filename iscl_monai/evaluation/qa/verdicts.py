"""Numbers against limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from iscl_monai.evaluation.qa.figures import InsertFigures, LesionFigures, RobustnessFigures, TaskFigures
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.phantom import FULL_DOSE, LOW_CONTRAST
from iscl_monai.evaluation.qa.result import DoseResult, Status, Verdict, mean

SOFT_HU = 200.0
LARGE_MM, STRONG_HU = 5.0, 20.0

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


def _of_dose(result: DoseResult, full: DoseResult) -> Iterator[Judged]:
    accuracy = result.accuracy
    if result.dose < FULL_DOSE:
        least = min(result.noise, key=lambda one: one.reduction_percent)
        yield (
            "noise_reduction_percent_min",
            f"noise reduction, % (least: {_object_name(least.module)})",
            least.reduction_percent,
        )
    shift = frequency_shift_percent(result, full)
    yield "noise_frequency_shift_percent_max", "shift of the noise's mean frequency from full dose, %", shift
    yield "f50_ratio_min", "f50 after over without noise (worst contrast)", worst_sharpness(accuracy.inserts)
    yield "f50_ratio_max", "f50 after over without noise (median of contrasts)", median_sharpness(accuracy.inserts)
    yield "position_mm_max", "rods or anatomy moved, mm", max(result.moved_mm.values())
    yield "bias_soft_hu_max", "shift of an insert within ±200 HU, HU", worst_shift_hu(accuracy.inserts, soft=True)
    yield "bias_other_hu_max", "shift of another insert, HU", worst_shift_hu(accuracy.inserts, soft=False)
    for one in result.tissues:
        yield "bias_anatomy_hu_max", f"shift of {one.tissue} in {_object_name(one.module)}, HU", abs(one.shift_hu)
    yield "slope_error_max", "slope of HU out against in, difference from 1", abs(accuracy.slope - 1)
    yield "uniformity_hu_max", "non-uniformity of water, HU", accuracy.uniformity_after_hu
    in_water = [task for task in result.tasks if task.module == LOW_CONTRAST]
    in_anatomy = [task for task in result.tasks if task.module != LOW_CONTRAST]
    yield "d_prime_ratio_min", "d' after over before, discs in water (worst size)", detectability_ratio(in_water)
    yield "d_prime_ratio_min", "d' after over before, lesions in anatomy (worst size)", detectability_ratio(in_anatomy)
    kept = recovery(result.lesions)
    yield "lesion_recovery_min", "contrast left of lesions", kept
    yield "lesion_recovery_max", "contrast left of lesions (enhanced)", kept
    yield "lesion_removed_share_max", "share of lesions removed", result.removed.count / result.removed.total
    yield (
        "hallucinations_per_slice_max",
        "blobs painted per slice, beyond the input's",
        hallucinations_per_slice(result),
    )


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
        size = value if limit != "noise_frequency_shift_percent_max" else abs(value)
        status = "pass" if (size >= number if least else size <= number) else "fail"
    return Verdict(
        limit=limit,
        quantity=quantity,
        dose=dose,
        value=value,
        allowed=f"{'at least' if least else 'at most'} {number:g}",
        status=status if judged else "not judged",
    )


def _object_name(module: str) -> str:
    return module.replace("_", " ")
