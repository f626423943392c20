"""What a quality check found: numbers in frozen dataclasses, verdicts, and a few pictures beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.equal_noise.curves import MethodCurves
from iscl_monai.evaluation.qa.figures import (
    AccuracyFigures,
    BorderFigures,
    CalcificationFigures,
    InventionFigures,
    LesionFigures,
    NoiseFigures,
    RobustnessFigures,
    SteadinessFigures,
    TaskFigures,
    Texture,
    TissueFigures,
)
from iscl_monai.evaluation.qa.limits import Kind, Reason
from iscl_monai.quality.lesions import Share
from iscl_monai.quality.linearity import SliceBehaviour

Status = Literal["pass", "fault", "wish missed", "not measurable", "not judged"]
DIGITS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class DoseResult:
    """All that was measured at one dose.

    Args:
        dose: share of the full dose.
        noise: by module.
        texture_before: of the input.
        texture_after: of the output.
        texture_removed: of what was removed.
        accuracy: HU and sharpness.
        tasks: detectability.
        lesions: in anatomy.
        calcifications: likewise.
        removed: how many of the lesions of 20 HU and more keep less than half.
        invention: by module.
        tissues: their mean and their noise, in anatomy.
        borders: their steepness, in anatomy.
        step_left: of steps from slice to slice in a stack, see :func:`iscl_monai.evaluation.qa.borders.step_left`.
        steadiness: how alike scans that differ in their noise alone are denoised.
        own_noise_share: in water, of the output's noise power what is not the input's noise.
        fixed_pattern_hu: in water, what all outputs share and their inputs do not.
        grey_steps: by module of anatomy, how much grey levels keep to steps, 0 to 1.
        moved_mm: by module, how far a quarter of it was moved at most.
        across: behaviour from slice to slice, by module.
        residual_edges: by module, correlation of what was removed with the anatomy's edges.
    """

    dose: float
    noise: tuple[NoiseFigures, ...]
    texture_before: Texture
    texture_after: Texture
    texture_removed: Texture
    accuracy: AccuracyFigures
    tasks: tuple[TaskFigures, ...]
    lesions: tuple[LesionFigures, ...]
    calcifications: tuple[CalcificationFigures, ...]
    removed: Share
    invention: tuple[InventionFigures, ...]
    tissues: tuple[TissueFigures, ...]
    borders: tuple[BorderFigures, ...]
    step_left: float
    steadiness: tuple[SteadinessFigures, ...]
    own_noise_share: float
    fixed_pattern_hu: float
    grey_steps: Mapping[str, float]
    moved_mm: Mapping[str, float]
    across: Mapping[str, SliceBehaviour]
    residual_edges: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One number against its limit.

    Args:
        limit: name in the limits file.
        quantity: what was measured, in words.
        dose: share of the full dose; None: whatever the dose.
        value: measured; NaN if not measurable.
        kind: where the limit comes from.
        allowed: the limit, in words.
        status: how it ended; "not judged" below the lowest dose that limits are meant for.
    """

    limit: str
    quantity: str
    dose: float | None
    value: float
    kind: Kind
    allowed: str
    status: Status

    @property
    def line(self) -> str:
        """The same for all doses and denoisers: what was measured, without where it was worst."""
        return f"{self.limit}: {self.quantity.partition(' (least')[0]}"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What another denoiser reaches on the same phantom.

    Args:
        name: of it.
        dose: share of the full dose that it was measured at.
        values: by :attr:`Verdict.line`.
    """

    name: str
    dose: float
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One module at one dose, for the page: HU (row, column), of one shape.

    Args:
        module: where.
        dose: share of the full dose.
        before_hu: one realisation.
        after_hu: the same, denoised.
        truth_hu: as the scanner shows it without noise.
        error_hu: mean of the outputs over realisations minus truth.
    """

    module: str
    dose: float
    before_hu: npt.NDArray[np.float32]
    after_hu: npt.NDArray[np.float32]
    truth_hu: npt.NDArray[np.float32]
    error_hu: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class QaResult:
    """A quality check of one denoiser.

    Args:
        denoiser: name, version, weights and settings.
        phantom: seed, size, pixel spacing, realisations, photons.
        doses: measured, descending; full dose first.
        robustness: beside them.
        limits: that it was held against.
        verdicts: one for each limit (and dose).
        reasons: of each limit, in words, and of which kind it is.
        beside: what other denoisers reach.
        curves: of the denoiser and of those beside it, over their strength; empty where not measured.
        curves_at: the dose of the curves.
        pictures: for the page; not in the JSON.
    """

    denoiser: Mapping[str, str]
    phantom: Mapping[str, float]
    doses: tuple[DoseResult, ...]
    robustness: RobustnessFigures
    limits: Mapping[str, float | None]
    verdicts: tuple[Verdict, ...]
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    beside: tuple[Beside, ...] = ()
    curves: tuple[MethodCurves, ...] = ()
    curves_at: float = 1.0
    pictures: tuple[Picture, ...] = field(default=(), repr=False, metadata={"json": False})

    @property
    def faults(self) -> tuple[Verdict, ...]:
        """Limits of physics, of a standard or of the literature that were measured and not kept."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fault")

    @property
    def missed_wishes(self) -> tuple[Verdict, ...]:
        """Limits of our own that were measured and not kept."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "wish missed")

    @property
    def unmeasured(self) -> tuple[Verdict, ...]:
        """Verdicts that could not be given: neither passed nor failed."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "not measurable")

    def at(self, dose: float) -> DoseResult:
        """The result at a dose.

        Raises:
            KeyError: if it was not measured.
        """
        return {result.dose: result for result in self.doses}[dose]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known before a verdict is read, in sentences."""
        left_hu = float(self.denoiser.get("target_noise_hu", 0))
        if left_hu <= 0:
            return ()
        return (
            f"These weights leave {left_hu:.3g} HU of noise on purpose, and images alone that are no louder. So a "
            "phantom that is hardly louder shows a fault in noise reduction, and at equal noise a reduction may not be "
            "reached. --target-noise 0 judges all they can take.",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries; NaN is None, infinity the word."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain | {"notes": [*self.notes]}


def mean(values: Iterable[float]) -> float:
    """Of those that could be measured; NaN if none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else float("nan")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value) if one.metadata.get("json", True)}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else (None if math.isnan(number) else str(number))
    return int(value) if isinstance(value, np.integer) else value
