"""The few numbers by which denoisers are compared."""

from __future__ import annotations

from iscl_monai.evaluation.qa.phantom import ANATOMY, FULL_DOSE, LOW_CONTRAST
from iscl_monai.evaluation.qa.result import QaResult, mean
from iscl_monai.evaluation.qa.verdicts import (
    detectability_ratio,
    frequency_shift_percent,
    hallucinations_per_slice,
    recovery,
    worst_shift_hu,
)

SOFT_CONTRAST_HU = 100.0


def headline(result: QaResult, dose: float) -> dict[str, float]:
    """The few numbers a comparison of denoisers wants; NaN where one could not be measured.

    Args:
        result: of :func:`run_qa`.
        dose: share of the full dose, one of those measured.

    Returns:
        By name, units in the name.

    Raises:
        KeyError: if the dose was not measured.
    """
    here, full = result.at(dose), result.at(FULL_DOSE)
    inserts = here.accuracy.inserts
    return {
        "noise_reduction_percent": mean(one.reduction_percent for one in here.noise if one.module in ANATOMY),
        "noise_frequency_shift_percent": frequency_shift_percent(here, full),
        "f50_ratio_100_hu": mean(one.f50_ratio for one in inserts if abs(one.true_hu) == SOFT_CONTRAST_HU),
        "d_prime_ratio": detectability_ratio(task for task in here.tasks if task.module == LOW_CONTRAST),
        "d_prime_ratio_anatomy": detectability_ratio(task for task in here.tasks if task.module != LOW_CONTRAST),
        "lesion_recovery": recovery(here.lesions),
        "lesions_removed_share": here.removed.count / here.removed.total,
        "hallucinations_per_slice": hallucinations_per_slice(here),
        "worst_bias_hu": max(worst_shift_hu(inserts, soft=True), worst_shift_hu(inserts, soft=False)),
        "full_dose_change_hu": result.robustness.full_dose_change_hu,
    }
