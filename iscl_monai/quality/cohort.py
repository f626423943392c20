"""From slices to patients to a cohort, with what chance leaves open.

Slices of one patient are not independent: an interval over slices is too narrow, and a long scan would outweigh a short
one. So each patient has one mean, and patients are what is averaged and resampled.
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import Refusal
from iscl_monai.quality.fidelity import Fidelity, FidelityMean, same_protocol
from iscl_monai.quality.protocol import Protocol

FEWEST_PATIENTS = 3
COVERAGE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over patients.

    Args:
        mean: NaN if nothing could be measured.
        interval: 95 % percentile bootstrap over patients; None with fewer than 3 patients, or values that are not
            finite. With fewer than about 10 patients it is narrower than it should be.
        patients: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    patients: int

    def formatted(self, digits: int, *, signed: bool = False) -> str:
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
        patients: names, in the order of the resampling.
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


def cohort(patients: Mapping[str, FidelityMean], *, seed: int = 0) -> Cohort:
    """Means over patients with bootstrap intervals.

    Args:
        patients: name -> :func:`patient_mean`.
        seed: of the resampling.

    Raises:
        Refusal: if there is no patient, or the protocols differ.
    """
    protocol = same_protocol(*patients.values())
    columns = {name: [getattr(mean, name) for mean in patients.values()] for name in protocol.quantities}
    return _cohort(patients, protocol, columns, seed)


def paired_difference(
    method: Mapping[str, FidelityMean], baseline: Mapping[str, FidelityMean], *, seed: int = 0
) -> Cohort:
    """Method minus baseline of each patient, and its mean: far less uncertain than two means apart.

    Args:
        method: name -> :func:`patient_mean`.
        baseline: another method, or the noisy input, for the same patients.
        seed: of the resampling.

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
    return _cohort(method, protocol, columns, seed)


def _cohort(
    patients: Mapping[str, FidelityMean], protocol: Protocol, columns: Mapping[str, Sequence[float]], seed: int
) -> Cohort:
    return Cohort(
        protocol=protocol,
        patients=tuple(patients),
        slices=sum(mean.slices for mean in patients.values()),
        estimates={quantity: bootstrap(values, seed=seed) for quantity, values in columns.items()},
    )


def bootstrap(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of one value per patient, and its 95 % percentile interval from 10,000 resamplings.

    Args:
        values: NaN where a patient could not be measured: then the patient does not count.
        seed: of the resampling.
    """
    measured: NDArray[np.float64] = np.array([value for value in values if not math.isnan(value)], np.float64)
    if not measured.size:
        return Estimate(mean=math.nan, interval=None, patients=0)
    if len(measured) < FEWEST_PATIENTS or not np.isfinite(measured).all():
        finite = np.isfinite(measured).all() or len(set(np.sign(measured[np.isinf(measured)]))) == 1
        mean = float(measured.mean()) if finite else math.nan
        return Estimate(mean=mean, interval=None, patients=len(measured))
    drawn = np.random.default_rng(seed).integers(0, len(measured), (RESAMPLES, len(measured)))
    outside = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(measured[drawn].mean(axis=1), [outside, 100 - outside])
    return Estimate(mean=float(measured.mean()), interval=(float(low), float(high)), patients=len(measured))
