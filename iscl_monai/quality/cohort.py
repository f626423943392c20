"""From slices to patients to a cohort, with what chance leaves open.

Slices of one patient are not independent: an interval over slices is too narrow, and a long scan would outweigh a short
one. So each patient has one mean, and patients are what is averaged.

The interval is Student's (Biometrika 6:1-25, 1908): mean -+ t(0.975, n - 1) standard errors. Bootstraps over patients,
percentile and BCa alike, resample ten values as if they were all there is, and cover 89 % where 95 % is written
(``benchmarks/check_coverage.py``); the t interval covers 95 % of normal values at any number of patients, and 94 % of
ten whose skewness is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from iscl_monai.errors import Refusal
from iscl_monai.quality.fidelity import Fidelity, FidelityMean, same_protocol
from iscl_monai.quality.protocol import Protocol

FEWEST_PATIENTS = 3
COVERAGE = 0.95
INTERVAL = "95 % t interval over patients"
"""The name under which every table prints it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over patients.

    Args:
        mean: NaN if nothing could be measured.
        interval: 95 % t interval over patients; None with fewer than 3 patients, or values that are not finite.
        patients: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    patients: int

    def text(self, digits: int, *, signed: bool = False) -> str:
        """``28.03 (27.51 to 28.60)``, or the mean alone where there is no interval."""
        sign = "+" if signed else ""
        if math.isnan(self.mean):
            return "not measurable"
        if self.interval is None:
            return f"{self.mean:{sign}.{digits}f}"
        low, high = (f"{end:{sign}.{digits}f}" for end in self.interval)
        return f"{self.mean:{sign}.{digits}f} ({low} to {high})"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """All patients of one method on one protocol, or of a paired difference of two methods.

    Args:
        protocol: what the numbers were measured with.
        patients: names.
        slices: in all.
        estimates: quantity of the protocol -> mean over patients.
    """

    protocol: Protocol
    patients: tuple[str, ...]
    slices: int
    estimates: Mapping[str, Estimate]


def patient_mean(scans: Sequence[Fidelity]) -> FidelityMean:
    """The mean over all slices of one patient, however many scans they are in.

    Raises:
        Refusal: if there is no scan, or the protocols differ.
    """
    protocol = same_protocol(*scans)
    names = ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu", "vif")
    columns = (np.concatenate([getattr(scan, name) for scan in scans]) for name in names)
    return Fidelity(protocol, *columns).mean()


def cohort(patients: Mapping[str, FidelityMean]) -> Cohort:
    """Means over patients with intervals.

    Args:
        patients: name -> :func:`patient_mean`.

    Raises:
        Refusal: if there is no patient, or the protocols differ.
    """
    protocol = same_protocol(*patients.values())
    columns = {name: [getattr(mean, name) for mean in patients.values()] for name in protocol.quantities}
    return _cohort(patients, protocol, columns)


def paired_difference(method: Mapping[str, FidelityMean], baseline: Mapping[str, FidelityMean]) -> Cohort:
    """Method minus baseline of each patient, and its mean: far less uncertain than two means apart.

    Args:
        method: name -> :func:`patient_mean`.
        baseline: another method, or the noisy input, for the same patients.

    Raises:
        Refusal: if the patients, their slices or the protocols differ.
    """
    if set(method) != set(baseline):
        alone = sorted(set(method) ^ set(baseline))
        raise Refusal(
            f"patients that only one of two methods has: {', '.join(alone)}",
            allowed="the same patients for both",
            cure="measure both methods on the same datalist",
        )
    protocol = same_protocol(*method.values(), *baseline.values())
    gains = [method[name].gain_over(baseline[name]) for name in method]
    columns = {quantity: [gain[quantity] for gain in gains] for quantity in protocol.quantities}
    return _cohort(method, protocol, columns)


def _cohort(patients: Mapping[str, FidelityMean], protocol: Protocol, columns: Mapping[str, Sequence[float]]) -> Cohort:
    return Cohort(
        protocol=protocol,
        patients=tuple(patients),
        slices=sum(mean.slices for mean in patients.values()),
        estimates={quantity: mean_over_patients(values) for quantity, values in columns.items()},
    )


def mean_over_patients(values: Sequence[float]) -> Estimate:
    """The mean of one value per patient, and its 95 % t interval.

    Args:
        values: NaN where a patient could not be measured: then the patient does not count.
    """
    measured: NDArray[np.float64] = np.array([value for value in values if not math.isnan(value)], np.float64)
    patients = len(measured)
    if not patients:
        return Estimate(mean=math.nan, interval=None, patients=0)
    if patients < FEWEST_PATIENTS or not np.isfinite(measured).all():
        finite = np.isfinite(measured).all() or len(set(np.sign(measured[np.isinf(measured)]))) == 1
        return Estimate(mean=float(measured.mean()) if finite else math.nan, interval=None, patients=patients)
    mean = float(measured.mean())
    standard_error = float(measured.std(ddof=1)) / math.sqrt(patients)
    reach = float(stats.t.ppf((1 + COVERAGE) / 2, patients - 1)) * standard_error
    return Estimate(mean=mean, interval=(mean - reach, mean + reach), patients=patients)
