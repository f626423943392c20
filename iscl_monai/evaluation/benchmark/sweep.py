"""A small sweep of each learned method's own settings, on validation, as long for one as for the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iscl_monai.report.numbers import OPTIMISTIC
from iscl_monai.report.section import Table


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings that a method is tried with, relative to the configured ones.

    Args:
        learning_rate: factor.
        nested_weight: factor of lambda, by which everything but the adversarial term counts.
    """

    learning_rate: float = 1.0
    nested_weight: float = 1.0

    @property
    def name(self) -> str:
        """As printed and as a folder's name."""
        factors = {"rate": self.learning_rate, "lambda": self.nested_weight}
        return " ".join(f"{name} x{factor:g}" for name, factor in factors.items() if factor != 1) or "as configured"

    @property
    def folder(self) -> str:
        """Of its training."""
        return f"sweep-{self.name.replace(' ', '-')}"

    def settings(self, configured: Mapping[str, Any]) -> dict[str, float]:
        """Overrides.

        Args:
            configured: ``learning_rate`` and ``nested_weight`` without the sweep.
        """
        factors = {"learning_rate": self.learning_rate, "nested_weight": self.nested_weight}
        return {name: configured[name] * factor for name, factor in factors.items() if factor != 1}


RATES = tuple(Candidate(learning_rate=factor) for factor in (1, 0.3, 3, 0.1))
"""Of methods with one loss term."""
RATES_AND_WEIGHTS = (
    Candidate(),
    Candidate(learning_rate=0.3),
    Candidate(nested_weight=0.3),
    Candidate(nested_weight=3),
)
"""Of adversarial methods: as many, so that each has the same budget."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What the sweep of one method found.

    Args:
        title: of the method.
        validation_db: PSNR of each candidate, in the order they were tried; NaN where nothing could be measured.
        chosen: that with the highest.
        settings: what it changes.
    """

    title: str
    validation_db: Mapping[Candidate, float]
    chosen: Candidate
    settings: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Without NaN."""
        figures = {one.name: None if value != value else value for one, value in self.validation_db.items()}
        return {"method": self.title, "validation_psnr_db": figures, "chosen": self.chosen.name, **self.settings}


def best(validation_db: Mapping[Candidate, float]) -> Candidate:
    """The candidate with the highest figure; the first of several, and of none."""
    known = {one: value for one, value in validation_db.items() if value == value}
    return max(known, key=lambda one: known[one], default=next(iter(validation_db)))


def sweep_table(swept: Sequence[Swept]) -> Table | None:
    """What each method was tried with and what was chosen; None without a sweep."""
    if not swept:
        return None
    most = max(len(one.validation_db) for one in swept)
    lines = []
    for one in swept:
        cells = [f"{name.name}: {value:.2f}" for name, value in one.validation_db.items()]
        settings = ", ".join(f"{name} {value:g}" for name, value in one.settings.items())
        lines.append([one.title, f"{one.chosen.name}{f' ({settings})' if settings else ''}", *cells])
    heads = ["method", "chosen", *[f"try {number}" for number in range(1, most + 1)]]
    return Table(title=f"What the sweeps chose, by validation PSNR, dB ({OPTIMISTIC})", heads=heads, lines=lines)
