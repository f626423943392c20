"""All pairs of an evaluation on one protocol: per slice, per patient, per cohort, the noisy input beside everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import Refusal
from iscl_monai.evaluation.ceiling import Ceiling, Floats, excess_rmse_hu, patient_ceiling, perfect_slices
from iscl_monai.evaluation.pairs import Pair, middle_slice
from iscl_monai.quality.cohort import INTERVAL, Cohort, cohort, paired_difference, patient_mean
from iscl_monai.quality.fidelity import Fidelity, FidelityMean, fidelity
from iscl_monai.quality.noise import no_reference_panel
from iscl_monai.quality.protocol import Protocol
from iscl_monai.quality.regions import region_results
from iscl_monai.report.case import ReportCase, fidelity_rows, metric_rows

MOST_PICTURED = 8
UNITS = {"psnr_db": "dB", "ssim": "", "rmse_hu": "HU", "mean_shift_hu": "HU", "vif": ""}
NAMES = {"psnr_db": "PSNR", "ssim": "SSIM", "rmse_hu": "RMSE", "mean_shift_hu": "Mean shift", "vif": "VIF"}
DIGITS = {"psnr_db": 2, "ssim": 4, "rmse_hu": 2, "mean_shift_hu": 2, "vif": 4}


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """One pair, measured.

    Args:
        name: of the pair.
        patient: who it is.
        body_part: BodyPartExamined; empty when not said.
        denoised: per slice.
        noisy: likewise; None if the noisy input is not known.
        perfect: of :func:`iscl_monai.evaluation.ceiling.perfect_slices`; None: neither dose nor truth is known.
    """

    name: str
    patient: str
    body_part: str
    denoised: Fidelity
    noisy: Fidelity | None
    perfect: Floats | None = None

    def gain_db(self) -> float:
        """PSNR over the noisy input; without one, PSNR."""
        before = 0.0 if self.noisy is None else self.noisy.mean().psnr_db
        return self.denoised.mean().psnr_db - before


class Scores:
    """Gathers pairs as they come; volumes are not kept.

    Args:
        protocol: what is measured.
        left_hu: noise that the denoiser was to leave; None: not known, or it was not told any.
    """

    def __init__(self, protocol: Protocol, *, left_hu: float | None = None) -> None:
        self.protocol, self.left_hu = protocol, left_hu
        self.pairs: list[PairScores] = []
        self._pictured: list[tuple[float, ReportCase]] = []

    def add(self, pair: Pair) -> PairScores:
        """Measure a pair.

        Raises:
            ImageRefusal: what the protocol cannot measure.
        """
        noisy = None if pair.noisy is None else self._measured(pair.noisy.hu, pair)
        denoised = self._measured(pair.denoised_hu, pair)
        scores = PairScores(
            name=pair.name,
            patient=pair.patient,
            body_part=pair.body_part,
            denoised=denoised,
            noisy=noisy,
            perfect=self._perfect(pair, noisy),
        )
        self.pairs.append(scores)
        self._picture(pair, scores)
        return scores

    def _measured(self, image_hu: NDArray[np.float32], pair: Pair) -> Fidelity:
        return fidelity(image_hu, pair.reference.hu, protocol=self.protocol)

    def _perfect(self, pair: Pair, noisy: Fidelity | None) -> Floats | None:
        if noisy is None or pair.truth is pair.reference or (pair.truth is None and pair.dose is None):
            return None
        perfect = None if pair.truth is None else self._measured(pair.truth.hu, pair)
        return perfect_slices(noisy, perfect=perfect, dose=pair.dose)

    def _picture(self, pair: Pair, scores: PairScores) -> None:
        """Keep the cases with the least gain: a report that shows only what went well is advertising."""
        after = scores.denoised.mean()
        if pair.noisy is None or scores.noisy is None:
            rows = fidelity_rows(after, None)
        else:
            panel = no_reference_panel(pair.noisy.hu, pair.denoised_hu)
            regions = region_results(pair.noisy.hu, pair.denoised_hu)
            rows = metric_rows(panel, regions, noisy=scores.noisy.mean(), denoised=after, left_hu=self.left_hu)
        case = ReportCase(
            name=pair.name,
            noisy_hu=None if pair.noisy is None else middle_slice(pair.noisy.hu),
            denoised_hu=middle_slice(pair.denoised_hu),
            reference_hu=middle_slice(pair.reference.hu),
            rows=rows,
            note=f"Pictures: the middle one of {len(pair.denoised_hu)} slices. Numbers: means over all of them.",
        )
        gain = scores.gain_db()
        self._pictured.append((-math.inf if math.isnan(gain) else gain, case))
        self._pictured.sort(key=lambda entry: entry[0])
        del self._pictured[MOST_PICTURED:]

    def cases(self) -> list[ReportCase]:
        """The pairs with the least gain in PSNR, at most 8, the least first."""
        return [case for _, case in self._pictured]

    def patients(self, method: str) -> dict[str, FidelityMean]:
        """Patient -> mean over all slices of all scans.

        Args:
            method: ``denoised`` or ``noisy``.

        Raises:
            Refusal: if nothing was measured, or of ``noisy`` if a pair has none.
        """
        scans: dict[str, list[Fidelity]] = {}
        for pair in self.pairs:
            one = getattr(pair, method)
            if one is None:
                raise Refusal(f"no {method} scan of {pair.name}", allowed="one in each pair", cure="give --noisy")
            scans.setdefault(pair.patient, []).append(one)
        return {patient: patient_mean(each) for patient, each in scans.items()}

    def cohorts(self) -> dict[str, Cohort]:
        """``denoised``; and, where the noisy input of every pair is known, ``noisy`` and ``gain`` (paired)."""
        denoised = self.patients("denoised")
        if any(pair.noisy is None for pair in self.pairs):
            return {"denoised": cohort(denoised)}
        noisy = self.patients("noisy")
        return {"noisy": cohort(noisy), "denoised": cohort(denoised), "gain": paired_difference(denoised, noisy)}

    def ceilings(self) -> dict[str, Ceiling]:
        """Patient -> what a perfect denoiser would reach; empty where that is not known of all of them."""
        scans: dict[str, list[Floats]] = {}
        for pair in self.pairs:
            if pair.perfect is None:
                return {}
            scans.setdefault(pair.patient, []).append(pair.perfect)
        return {patient: patient_ceiling(each) for patient, each in scans.items()}

    def excess_rmse_hu(self) -> dict[str, float]:
        """Of ``noisy`` and ``denoised`` the error beyond the references' own noise; empty where that is not known."""
        known = self.ceilings()
        return {
            method: excess_rmse_hu({name: mean.mse_hu2 for name, mean in self.patients(method).items()}, known)
            for method in (self._methods() if known else ())
        }

    def notices(self) -> list[str]:
        """What a reader of the numbers must know."""
        notes = [self.protocol.note] if self.protocol.note else []
        others = sorted({pair.body_part for pair in self.pairs if not self.protocol.fits(pair.body_part)})
        if others:
            meant = ", ".join(self.protocol.body_parts)
            notes.append(f"BodyPartExamined is {', '.join(others)}; {self.protocol.name} is meant for {meant}")
        if any(pair.noisy is None for pair in self.pairs):
            notes.append("the noisy input was not given: without its numbers these say little (give --noisy)")
        known = self.ceilings()
        if known:
            gain_db = sum(one.gain_db for one in known.values()) / len(known)
            notes.append(f"a perfect denoiser would gain {gain_db:.2f} dB in PSNR: the reference has noise of its own")
        return notes

    def content(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them; what could not be measured, and infinity, is null."""
        columns = self.protocol.quantities
        return {
            "protocol": {"identity": self.protocol.identity, **self.protocol.settings()},
            "notices": self.notices(),
            "interval": INTERVAL,
            "cohort": {name: _cohort_content(one) for name, one in self.cohorts().items()},
            "ceiling": {patient: asdict(ceiling) for patient, ceiling in self.ceilings().items()},
            "excess_rmse_hu": self.excess_rmse_hu(),
            "mean_over_slices": {
                method: _means(patient_mean([getattr(pair, method) for pair in self.pairs]), columns)
                for method in self._methods()
            },
            "patients": {
                patient: {method: _means(self.patients(method)[patient], columns) for method in self._methods()}
                for patient in self.patients("denoised")
            },
            "pairs": [self._pair_content(pair, columns) for pair in self.pairs],
        }

    def _methods(self) -> tuple[str, ...]:
        return ("denoised",) if any(pair.noisy is None for pair in self.pairs) else ("noisy", "denoised")

    def _pair_content(self, pair: PairScores, columns: Sequence[str]) -> dict[str, Any]:
        slices = {
            method: {column: [finite(value) for value in getattr(getattr(pair, method), column)] for column in columns}
            for method in self._methods()
        }
        return {"name": pair.name, "patient": pair.patient, "body_part": pair.body_part, "slices": slices}


def finite(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


def _means(mean: FidelityMean, columns: Sequence[str]) -> dict[str, float | int | None]:
    return {"slices": mean.slices, **{column: finite(getattr(mean, column)) for column in columns}}


def _cohort_content(one: Cohort) -> dict[str, Any]:
    return {
        "patients": len(one.patients),
        "slices": one.slices,
        **{
            name: {
                "mean": finite(estimate.mean),
                "interval_95": None if estimate.interval is None else list(estimate.interval),
                "patients": estimate.patients,
            }
            for name, estimate in one.estimates.items()
        },
    }
