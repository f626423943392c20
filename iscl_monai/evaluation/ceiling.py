"""What a perfect denoiser would reach against a reference that has noise of its own, and errors beyond that noise.

The reference of a simulated low dose is a scan: its noise is in the low dose, too. With the dose a of the low one over
the reference's, the added noise has (1 - a) / a times the variance of the reference's own. A denoiser that finds the
anatomy exactly still differs from the reference by that noise, and gains ``10 log10((1 - a) / a)`` dB, 4.77 at a
quarter. Where the truth is known, it is measured against the reference itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iscl_monai.quality.fidelity import Fidelity

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Of one patient on one protocol.

    Args:
        psnr_db: of a perfect denoiser, mean over slices.
        gain_db: of it over the noisy input.
        reference_mse_hu2: mean square of the reference's own noise, mean over slices.
    """

    psnr_db: float
    gain_db: float
    reference_mse_hu2: float


def perfect_slices(noisy: Fidelity, *, perfect: Fidelity | None = None, dose: float | None = None) -> Floats:
    """Per slice: PSNR of the input and of a perfect denoiser, mean square of the reference's noise; (slice, 3).

    Args:
        noisy: the input against the reference.
        perfect: the truth against the reference; None where it is not known.
        dose: of the noisy scan over the reference's, looked at where the truth is not known.

    Raises:
        ValueError: neither truth nor dose.
    """
    if perfect is not None:
        return np.stack([noisy.psnr_db, perfect.psnr_db, perfect.rmse_hu**2], axis=1)
    if dose is None:
        raise ValueError("the truth or the dose must be known")
    ratio = (1 - dose) / dose
    return np.stack([noisy.psnr_db, noisy.psnr_db + 10 * math.log10(ratio), noisy.rmse_hu**2 / ratio], axis=1)


def patient_ceiling(scans: Sequence[Floats]) -> Ceiling:
    """Means over all slices of a patient.

    Args:
        scans: of :func:`perfect_slices`.
    """
    noisy_db, perfect_db, square = np.nanmean(np.concatenate(scans), axis=0).tolist()
    return Ceiling(psnr_db=perfect_db, gain_db=perfect_db - noisy_db, reference_mse_hu2=square)


def excess_rmse_hu(mse_hu2: Mapping[str, float], known: Mapping[str, Ceiling]) -> float:
    """Error beyond the reference's own noise: root of the mean over patients of ``MSE - reference's``.

    Args:
        mse_hu2: of a method by patient.
        known: the ceilings by patient.

    Returns:
        HU; below 0 where the error is less than the reference's noise, as what a method leaves of that noise counts for
        it; NaN where a patient's ceiling is not known.
    """
    if not known or set(known) != set(mse_hu2):
        return math.nan
    excess = float(np.mean([mse_hu2[patient] - known[patient].reference_mse_hu2 for patient in known]))
    return math.copysign(math.sqrt(abs(excess)), excess)
