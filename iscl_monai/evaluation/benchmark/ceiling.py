"""What a perfect denoiser would reach against a reference that has noise of its own.

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

from iscl_monai.evaluation.benchmark.score import LoadedPair, judged_by_reference
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import Protocol

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


def ceilings(pairs: Sequence[LoadedPair], protocols: Sequence[Protocol]) -> dict[str, dict[str, Ceiling]]:
    """By protocol identity and patient; patients of whom neither dose nor truth is known are left out.

    Args:
        pairs: all that are scored.
        protocols: those against references.
    """
    judged = judged_by_reference(pairs)
    unknown = {pair.patient for pair in judged if pair.truth_hu is None and pair.dose is None}
    return {
        protocol.identity: _patients([pair for pair in judged if pair.patient not in unknown], protocol)
        for protocol in protocols
    }


def _patients(pairs: Sequence[LoadedPair], protocol: Protocol) -> dict[str, Ceiling]:
    slices: dict[str, list[Floats]] = {}
    for pair in pairs:
        slices.setdefault(pair.patient, []).append(_slices(pair, protocol))
    found = {}
    for patient, parts in slices.items():
        noisy_db, perfect_db, square = np.nanmean(np.concatenate(parts), axis=0).tolist()
        found[patient] = Ceiling(psnr_db=perfect_db, gain_db=perfect_db - noisy_db, reference_mse_hu2=square)
    return found


def _slices(pair: LoadedPair, protocol: Protocol) -> Floats:
    """Per slice: PSNR of the input and of a perfect denoiser, mean square of the reference's noise; (slice, 3)."""
    noisy = fidelity(pair.noisy_hu, pair.clean_hu, protocol=protocol)
    if pair.truth_hu is not None:
        perfect = fidelity(pair.truth_hu, pair.clean_hu, protocol=protocol)
        return np.stack([noisy.psnr_db, perfect.psnr_db, perfect.rmse_hu**2], axis=1)
    assert pair.dose is not None
    ratio = (1 - pair.dose) / pair.dose
    return np.stack([noisy.psnr_db, noisy.psnr_db + 10 * math.log10(ratio), noisy.rmse_hu**2 / ratio], axis=1)


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
