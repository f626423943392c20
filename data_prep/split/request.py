"""What a user may ask of a split."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from iscl_monai.data import MINIMUM_GAP_MM
from iscl_monai.errors import ConfigRefusal

RULES = ("auto", "patient", "z")
PATIENT_SOURCES = ("", "study", "folder")


@dataclass(frozen=True, kw_only=True)
class SplitRequest:
    """Everything besides the table that decides a split.

    Args:
        validation: share held out for validation, of patients (of slices, where patients are cut).
        test: share of patients held out for the test, always whole ones.
        seed: another seed gives another split.
        noisy_above_hu: real scans with at least this noise feed the noisy pool.
        clean_below_hu: real scans with at most this noise feed the clean pool.
        body_parts: keep these only; empty: all.
        by: ``patient``, ``z`` or ``auto``.
        gap_mm: distance of two parts of one patient.
        exclude_patients: leave these out.
        exclude_series: leave these out, and what was simulated from them: SeriesInstanceUIDs, or paths of the table.
        accept_iterative: take series of iterative reconstruction beside those of filtered backprojection.
        patient_from: what stands for a missing patient: ``study``, ``folder``, or ``""``: refuse.

    Raises:
        ConfigRefusal: if a value makes no sense.
    """

    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    noisy_above_hu: float | None = None
    clean_below_hu: float | None = None
    body_parts: tuple[str, ...] = ()
    by: str = "auto"
    gap_mm: float = MINIMUM_GAP_MM
    exclude_patients: tuple[str, ...] = ()
    exclude_series: tuple[str, ...] = ()
    accept_iterative: bool = False
    patient_from: str = ""

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or not self.validation + self.test <= 0.8:
            raise ConfigRefusal(
                f"validation={self.validation:g}, test={self.test:g}",
                allowed="shares of 0 or more that leave at least 0.2 to train on",
                cure="give e.g. --validation 0.1 --test 0.2",
            )
        if not MINIMUM_GAP_MM <= self.gap_mm < math.inf:
            raise ConfigRefusal(
                f"gap {self.gap_mm:g} mm",
                allowed=f"{MINIMUM_GAP_MM:g} mm or more: nearer slices show the same anatomy",
                cure="leave --gap out",
            )
        for name, value, allowed in (("by", self.by, RULES), ("patient_from", self.patient_from, PATIENT_SOURCES)):
            if value not in allowed:
                raise ConfigRefusal(f"{name} {value!r}", allowed=", ".join(filter(None, allowed)), cure="give one")
        above, below = self.noisy_above_hu, self.clean_below_hu
        for name, limit in (("noisy above", above), ("clean below", below)):
            if limit is not None and not 0 <= limit < math.inf:
                raise ConfigRefusal(
                    f"{name} {limit:g} HU", allowed="a noise of 0 HU or more", cure="look at the column 'noise_hu'"
                )
        if above is not None and below is not None and above <= below:
            raise ConfigRefusal(
                f"noisy above {above:g} HU, clean below {below:g} HU",
                allowed="a clean limit below the noisy one",
                cure="exchange the two",
            )

    def lot(self, *words: str) -> int:
        """A number drawn for some words: the same on every machine, whatever else is in the table."""
        return int.from_bytes(hashlib.sha256("\0".join((str(self.seed), *words)).encode()).digest()[:8], "big")
