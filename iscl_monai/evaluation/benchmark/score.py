"""How near a denoiser comes to the references of a datalist's pairs, patient by patient, on several protocols."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.data import ScanPair
from iscl_monai.evaluation import pairs as pairs_module
from iscl_monai.evaluation.equal_noise.slices import NoisyScan
from iscl_monai.evaluation.pairs import truth_of
from iscl_monai.evaluation.plausible import check_same_image
from iscl_monai.evaluation.scans import check_same_place, read_scan
from iscl_monai.inference import SliceDenoiser, denoise_volume
from iscl_monai.quality.cohort import patient_mean
from iscl_monai.quality.fidelity import Fidelity, FidelityMean, fidelity
from iscl_monai.quality.protocol import TRUTH_PROTOCOLS, Protocol

Volume = NDArray[np.float32]
QUANTITIES = ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu", "vif", "mse_hu2")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedPair:
    """A noisy scan and its reference in memory.

    Args:
        patient: who it is.
        noisy_hu: float32 HU (slice, row, column).
        clean_hu: the same shape.
        truth_hu: the anatomy without noise, the same shape; None: not known.
        truth_protocol: that errors against it are named by; empty without a truth.
        dose: of the noisy scan over that of the reference it was made from; None: not known.
        spacing_mm: between rows, between columns.
    """

    patient: str
    noisy_hu: Volume
    clean_hu: Volume
    truth_hu: Volume | None = None
    truth_protocol: str = ""
    dose: float | None = None
    spacing_mm: tuple[float, float] = (1.0, 1.0)

    def digest(self) -> str:
        """Tells these voxels from any others."""
        held = [self.noisy_hu, self.clean_hu] + ([] if self.truth_hu is None else [self.truth_hu])
        return hashlib.sha256(b"".join(volume.tobytes() for volume in held)).hexdigest()[:16]


def loaded(pairs: Sequence[ScanPair]) -> Iterator[LoadedPair]:
    """Read pairs one after the other.

    Raises:
        Refusal: whatever cannot be read, or whose two scans are not of one place, scale and orientation.
    """
    for pair in pairs:
        noisy = read_scan(pair.noisy, series_uid=pair.noisy_series_uid, z_range_mm=pair.z_range_mm)
        clean = read_scan(pair.clean, series_uid=pair.clean_series_uid, z_range_mm=pair.z_range_mm)
        check_same_place(noisy, clean)
        check_same_image(noisy.hu, clean.hu, names=(pair.noisy, pair.clean))
        truth = truth_of(pair, clean)
        yield LoadedPair(
            patient=pair.patient,
            noisy_hu=noisy.hu,
            clean_hu=clean.hu,
            truth_hu=None if truth is None else truth.hu,
            truth_protocol=pair.truth_protocol or "",
            dose=noisy.simulated_dose if pair.dose is None else pair.dose,
            spacing_mm=noisy.pixel_spacing_mm,
        )


def noisy_scans(pairs: Sequence[LoadedPair]) -> Iterator[NoisyScan]:
    """Pairs as methods are compared on at equal noise: what is known of their noise is what is over the truth.

    Where there is no truth, it is what is over the reference, whose own noise counts as anatomy.
    """
    for pair in pairs:
        yield NoisyScan(
            patient=pair.patient,
            group=pair.truth_protocol if pair.truth_hu is not None else "",
            noisy_hu=pair.noisy_hu,
            scene_hu=pair.clean_hu if pair.truth_hu is None else pair.truth_hu,
            spacing_mm=pair.spacing_mm,
        )


def scores(
    denoiser: SliceDenoiser,
    pairs: Sequence[LoadedPair],
    protocols: Sequence[Protocol],
    *,
    progress: Callable[[int], object] | None = None,
) -> dict[str, dict[str, FidelityMean]]:
    """Denoise every pair and measure it.

    Args:
        denoiser: what is measured.
        pairs: a patient may have several.
        protocols: what to measure on against references; errors against truths are measured on their own.
        progress: called with 1 after each slice.

    Returns:
        By protocol identity and patient: the mean over the patient's slices.
    """
    scans: dict[str, dict[str, list[Fidelity]]] = {
        one.identity: defaultdict(list) for one in (*protocols, *truth_protocols(pairs))
    }
    judged = judged_by_reference(pairs)
    for pair in pairs:
        denoised = denoise_volume(pair.noisy_hu, denoiser, progress=progress)
        held_against = [(protocol, pair.clean_hu) for protocol in protocols if pair in judged]
        if pair.truth_hu is not None:
            held_against.append((TRUTH_PROTOCOLS[pair.truth_protocol], pair.truth_hu))
        for protocol, reference_hu in held_against:
            measured = fidelity(denoised, reference_hu, protocol=protocol)
            scans[protocol.identity][pair.patient].append(measured)
    return {
        identity: {patient: patient_mean(each) for patient, each in patients.items()}
        for identity, patients in scans.items()
    }


def judged_by_reference(pairs: Sequence[LoadedPair]) -> list[LoadedPair]:
    """Those whose reference stands for what is wanted, see :func:`iscl_monai.evaluation.pairs.judged_by_reference`."""
    judged = pairs_module.judged_by_reference([pair.truth_hu for pair in pairs])
    return [pair for pair, wanted in zip(pairs, judged, strict=True) if wanted]


def truth_protocols(pairs: Sequence[LoadedPair]) -> list[Protocol]:
    """Those that errors against the pairs' truths are named by."""
    named = {pair.truth_protocol for pair in pairs if pair.truth_hu is not None}
    return [protocol for name, protocol in TRUTH_PROTOCOLS.items() if name in named]


def to_json(measured: Mapping[str, Mapping[str, FidelityMean]]) -> dict[str, Any]:
    """As JSON holds it, which knows neither NaN nor infinity."""
    return {
        identity: {
            patient: {"slices": mean.slices} | {name: _finite(getattr(mean, name)) for name in QUANTITIES}
            for patient, mean in patients.items()
        }
        for identity, patients in measured.items()
    }


def from_json(content: Mapping[str, Any], protocols: Sequence[Protocol]) -> dict[str, dict[str, FidelityMean]]:
    """What :func:`to_json` was given, for these protocols."""
    return {
        protocol.identity: {
            patient: FidelityMean(protocol, held["slices"], **{name: _number(held[name]) for name in QUANTITIES})
            for patient, held in content[protocol.identity].items()
        }
        for protocol in protocols
    }


def _finite(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "exact"


def _number(value: float | str | None) -> float:
    if value is None:
        return math.nan
    return math.inf if value == "exact" else float(value)
