"""Curves of a method over its strength, and what they say at one noise reduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iscl_monai.evaluation.equal_noise.slices import CONTRASTS_HU, RADII_PX
from iscl_monai.evaluation.equal_noise.strengths import (
    OBSERVED_EVERY,
    STRENGTHS,
    Floats,
    mean_square,
    strength_at,
)
from iscl_monai.quality.cohort import Estimate, mean_over_patients
from iscl_monai.quality.lesions import REMOVED_BELOW

FAINT_HU = 20.0
"""Lesions whose share that is removed is told."""
NOISE = "noise reduction"

Slices = Sequence[Mapping[str, Any]]


def contrast_name(contrast_hu: float, radius_px: float) -> str:
    """Of the share of a lesion's contrast that is left."""
    return f"contrast {contrast_hu:g} HU {radius_px:g} px"


def cnr_name(contrast_hu: float, radius_px: float) -> str:
    """Of a lesion's contrast over the noise in its band, the noisy scan's being 1."""
    return f"CNR {contrast_hu:g} HU {radius_px:g} px"


def observer_name(radius_px: float) -> str:
    """Of an observer's d' over that in the noisy scan."""
    return f"d' {radius_px:g} px"


REMOVED, F50, FREQUENCY, ERROR, GAIN = "lesions removed", "f50", "mean frequency", "error", "gain"


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodCurves:
    """One method on one group of patients.

    At equal noise each patient has a strength of its own: noise is equal in every patient, not only in the mean of the
    group, in which a method would remove much where it is easy and little where it is not.

    Args:
        title: as printed.
        slices: how many.
        of_patient: name of a patient -> name of a quantity -> its value at each of the strengths; NaN where it cannot
            be measured.
    """

    title: str
    slices: int
    of_patient: Mapping[str, Mapping[str, Floats]]

    @property
    def patients(self) -> int:
        """How many."""
        return len(self.of_patient)

    @property
    def names(self) -> list[str]:
        """Quantities that some patient has."""
        return list(dict.fromkeys(name for values in self.of_patient.values() for name in values))

    @property
    def values(self) -> dict[str, Floats]:
        """Name of a quantity -> mean over patients at each of the strengths."""
        return {
            name: _mean([values[name] for values in self.of_patient.values() if name in values]) for name in self.names
        }

    @property
    def moves(self) -> bool:
        """Whether it does anything to the noise at all, which the noisy input does not."""
        return any(np.ptp(values[NOISE]) > 0 for values in self.of_patient.values())

    def strengths_for(self, reduction: float) -> dict[str, float]:
        """Of each patient the strength at which so much noise is removed; NaN where the method does not get there."""
        return {patient: strength_at(values[NOISE], reduction) for patient, values in self.of_patient.items()}

    def reaches(self, reduction: float) -> bool:
        """Whether so much noise is removed in every patient: means over other patients cannot be compared."""
        return all(np.isfinite(strength) for strength in self.strengths_for(reduction).values())

    def at_noise(self, name: str, reduction: float) -> Estimate:
        """A quantity where so much noise is removed in every patient; NaN where that is not reached."""
        strengths = self.strengths_for(reduction) if self.reaches(reduction) else {}
        return mean_over_patients([self._at(patient, name, strength) for patient, strength in strengths.items()])

    def at(self, name: str, strength: float) -> Estimate:
        """A quantity at one strength for all patients, between two of the strengths on a straight line."""
        return mean_over_patients([self._at(patient, name, strength) for patient in self.of_patient])

    def visibilities(self, reduction: float) -> dict[str, float]:
        """Of each patient the mean of CNR (20 HU) and d' over all sizes, at one noise reduction; NaN: not reached."""
        names = [cnr_name(FAINT_HU, radius) for radius in RADII_PX] + [observer_name(radius) for radius in RADII_PX]
        found = {}
        for patient, strength in self.strengths_for(reduction).items():
            values = [self._at(patient, name, strength) for name in names]
            known = [value for value in values if np.isfinite(value)]
            found[patient] = float(np.mean(known)) if known else float("nan")
        return found

    def visibility(self, reduction: float) -> Estimate:
        """What methods are ranked by: the mean over patients of their visibility; NaN where it is not reached."""
        return mean_over_patients(list(self.visibilities(reduction).values()) if self.reaches(reduction) else [])

    def visibility_beside(self, other: MethodCurves, reduction: float) -> Estimate:
        """Visibility less that of another method, patient by patient."""
        ours, theirs = self.visibilities(reduction), other.visibilities(reduction)
        return mean_over_patients([ours[patient] - theirs[patient] for patient in ours])

    def to_json(self) -> dict[str, Any]:
        """Every curve, null where it cannot be measured."""
        return {
            "patients": self.patients,
            "slices": self.slices,
            "strength": STRENGTHS.tolist(),
            "curves": _as_json(self.values),
            "patient curves": {patient: _as_json(values) for patient, values in self.of_patient.items()},
        }

    def _at(self, patient: str, name: str, strength: float) -> float:
        curve = self.of_patient[patient].get(name)
        if curve is None or not np.isfinite(strength):
            return float("nan")
        return float(np.interp(strength, STRENGTHS, curve))


def _as_json(curves: Mapping[str, Floats]) -> dict[str, list[float | None]]:
    return {name: [float(value) if np.isfinite(value) else None for value in curve] for name, curve in curves.items()}


def method_curves(title: str, measured: Mapping[str, Any], group: str) -> MethodCurves:
    """Curves of the patients of a group; within a patient slices count by their pixels, lesions each alike.

    Args:
        title: of the method.
        measured: of :func:`iscl_monai.evaluation.equal_noise.measure.measured`.
        group: see :class:`iscl_monai.evaluation.equal_noise.slices.TestSlice`.
    """
    patients: dict[str, list[Mapping[str, Any]]] = {}
    for one in measured["slices"]:
        if one["group"] == group:
            patients.setdefault(one["patient"], []).append(one)
    return MethodCurves(
        title=title,
        slices=sum(len(slices) for slices in patients.values()),
        of_patient={patient: _patient(slices) for patient, slices in patients.items()},
    )


def groups_of(measured: Mapping[str, Any]) -> list[str]:
    """Groups that were measured, scans with a noisy reference first."""
    return sorted({one["group"] for one in measured["slices"]})


def _mean(curves: Sequence[Floats]) -> Floats:
    """Of those that have a value at each strength."""
    table = np.array(curves)
    count = np.isfinite(table).sum(axis=0)
    total: Floats = np.nansum(table, axis=0)
    mean: Floats = np.divide(total, count, out=np.full(len(STRENGTHS), np.nan), where=count > 0)
    return mean


def _patient(slices: Slices) -> dict[str, Floats]:
    noise = mean_square(one["noise"] for one in slices)
    values = {NOISE: 1 - np.sqrt(noise / noise[0])}
    values |= _lesion_curves(slices)
    sharpness = [[np.nan if at is None else at for at in one["f50"]] for one in slices if one["f50"]]
    if sharpness:
        f50 = _mean([np.array(one) for one in sharpness])
        values[F50] = f50 / f50[0]
    spectra = [one["spectrum"] for one in slices if one["spectrum"]]
    if spectra:
        values[FREQUENCY] = _mean([_frequency_shift(one) for one in spectra])
    errors = [one["error"] for one in slices if one["error"] is not None]
    if errors:
        square = mean_square(errors)
        values[ERROR] = np.sqrt(square)
        with np.errstate(divide="ignore"):
            values[GAIN] = 10 * np.log10(square[0] / square)
    return values | _observer_curves([one["observer"] for one in slices if one["observer"]])


def _lesion_curves(slices: Slices) -> dict[str, Floats]:
    """Contrast left and CNR by contrast and size, and the share of faint lesions that is gone."""
    lesions = np.array([lesion for one in slices for lesion in one["lesions"]], np.float64).reshape(-1, 3)
    values: dict[str, Floats] = {}
    for radius in RADII_PX:
        noise = mean_square(one["band"][f"{radius:g}"] for one in slices)
        for contrast in CONTRASTS_HU:
            added = lesions[(lesions[:, 0] == radius) & (lesions[:, 1] == contrast), 2]
            if not added.size or not noise[0] > 0:
                continue
            left = 1 + STRENGTHS * added.mean()
            values[contrast_name(contrast, radius)] = left
            # Contrast beyond what was put in is invented, and nothing is the better seen for it.
            with np.errstate(divide="ignore", invalid="ignore"):
                values[cnr_name(contrast, radius)] = np.minimum(left, 1) / np.sqrt(noise / noise[0])
    faint = lesions[lesions[:, 1] == FAINT_HU, 2]
    if faint.size:
        values[REMOVED] = np.mean(1 + STRENGTHS[:, None] * faint[None] < REMOVED_BELOW, axis=1)
    return values


def _frequency_shift(spectrum: Mapping[str, Sequence[float]]) -> Floats:
    """Change of the noise's mean frequency against that of the input's, as a share."""
    frequency, xx, xc, cc = (np.array(spectrum[name]) for name in ("frequency", "xx", "xc", "cc"))
    power = np.maximum(xx + 2 * STRENGTHS[:, None] * xc + STRENGTHS[:, None] ** 2 * cc, 0)
    ring = frequency * power  # as RadialSpectrum.mean_per_mm weighs them
    total = ring.sum(axis=1)
    mean = np.divide((frequency * ring).sum(axis=1), total, out=np.full(len(STRENGTHS), np.nan), where=total > 0)
    shift: Floats = mean / mean[0] - 1
    return shift


def _observer_curves(observers: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Floats]:
    """D' over that of the noisy scan, between the strengths that were looked at on a straight line."""
    values: dict[str, Floats] = {}
    for radius in RADII_PX:
        found = [np.array(one[f"{radius:g}"]) for one in observers if f"{radius:g}" in one]
        if found:
            mean = np.mean(found, axis=0)
            values[observer_name(radius)] = np.interp(STRENGTHS, STRENGTHS[::OBSERVED_EVERY], mean / mean[0])
    return values
