"""What a quality check found: numbers in frozen dataclasses, verdicts, and a few pictures beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iscl_monai.quality.detectability import Detectability
from iscl_monai.quality.lesions import Share
from iscl_monai.quality.linearity import SliceBehaviour

Status = Literal["pass", "fail", "not measurable"]
DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class NoiseFigures:
    """Noise of one module, before and after: standard deviation over realisations, over a region.

    Args:
        module: where.
        before_hu: of the input.
        after_hu: of the output.
    """

    module: str
    before_hu: float
    after_hu: float

    @property
    def reduction_percent(self) -> float:
        """0 nothing, 100 everything."""
        return 100 * (1 - self.after_hu / self.before_hu) if self.before_hu > 0 else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """A radial noise power spectrum in water.

    Args:
        frequency_per_mm: shape (frequency,).
        power_hu2_mm2: HU^2 mm^2, shape (frequency,).
        peak_per_mm: where it is highest.
        mean_per_mm: mean frequency, weighted with the power.
        check: root of the sum of the two-dimensional spectrum times du dv, over the patches' standard deviation: 1.
    """

    frequency_per_mm: npt.NDArray[np.float64]
    power_hu2_mm2: npt.NDArray[np.float64]
    peak_per_mm: float
    mean_per_mm: float
    check: float


@dataclass(frozen=True, kw_only=True)
class InsertFigures:
    """One rod: is its value right, and its edge sharp. What could not be measured is NaN.

    Args:
        name: of it.
        true_hu: as drawn.
        shown_hu: as the scanner shows it without noise.
        before_hu: mean of the input.
        after_hu: mean of the output.
        f50_per_mm: of the scan without noise.
        f50_before_per_mm: of the input, where its edge stands out.
        f50_after_per_mm: of the output.
        f10_per_mm: as ``f50_per_mm``.
        f10_after_per_mm: as ``f50_after_per_mm``.
    """

    name: str
    true_hu: float
    shown_hu: float
    before_hu: float
    after_hu: float
    f50_per_mm: float
    f50_before_per_mm: float
    f50_after_per_mm: float
    f10_per_mm: float
    f10_after_per_mm: float

    @property
    def shift_hu(self) -> float:
        """What the denoiser did to the mean: noise is the same in both, so few pixels tell it exactly."""
        return self.after_hu - self.before_hu

    @property
    def f50_ratio(self) -> float:
        """After, over the scan without noise."""
        return self.f50_after_per_mm / self.f50_per_mm


@dataclass(frozen=True, kw_only=True)
class AccuracyFigures:
    """Hounsfield units and sharpness.

    Args:
        inserts: one by one.
        slope: of out against in over the inserts.
        offset_hu: of that line at 0 HU.
        uniformity_before_hu: largest difference of the border from the middle of water.
        uniformity_after_hu: of the output.
    """

    inserts: tuple[InsertFigures, ...]
    slope: float
    offset_hu: float
    uniformity_before_hu: float
    uniformity_after_hu: float


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """Can an observer tell a signal from its absence.

    Args:
        module: where.
        name: of the signal.
        diameter_mm: of it.
        contrast_hu: of it, signed.
        before: on the input.
        after: on the output.
    """

    module: str
    name: str
    diameter_mm: float
    contrast_hu: float
    before: Detectability
    after: Detectability


@dataclass(frozen=True, kw_only=True)
class LesionFigures:
    """One lesion in anatomy.

    Args:
        module: where.
        organ: it lies in.
        diameter_mm: of it.
        contrast_hu: of it, signed.
        shape: disc or gaussian.
        recovered: share of its contrast in the output, mean over realisations.
    """

    module: str
    organ: str
    diameter_mm: float
    contrast_hu: float
    shape: str
    recovered: float


@dataclass(frozen=True, kw_only=True)
class InventionFigures:
    """Blobs that stay from realisation to realisation and are not in the truth.

    Args:
        module: where.
        before: in the mean of the inputs: what the scan itself does at few photons.
        after: in the mean of the outputs.
        low: lower end of the 95 % interval of ``after``.
        high: upper end of it.
    """

    module: str
    before: int
    after: int
    low: float
    high: float


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
        removed: how many of the lesions of 20 HU and more keep less than half.
        invention: by module.
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
    removed: Share
    invention: tuple[InventionFigures, ...]
    across: Mapping[str, SliceBehaviour]
    residual_edges: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RobustnessFigures:
    """What has nothing to do with dose.

    Args:
        full_dose_change_hu: mean absolute change over the body at full dose.
        full_dose_psnr_db: of output against input there, range 2000 HU; inf where nothing changed.
        padded_hu: largest change in the middle when air is put around the slice.
        cropped_hu: the same when the border is cut off.
        repeat_hu: largest difference between two runs.
    """

    full_dose_change_hu: float
    full_dose_psnr_db: float
    padded_hu: float
    cropped_hu: float
    repeat_hu: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One number against its limit.

    Args:
        limit: name in the limits file.
        quantity: what was measured, in words.
        dose: share of the full dose; None: whatever the dose.
        value: measured; NaN if not measurable.
        allowed: the limit, in words.
        status: how it ended.
    """

    limit: str
    quantity: str
    dose: float | None
    value: float
    allowed: str
    status: Status


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
        phantom: size, pixel spacing, realisations, photons.
        doses: measured, descending; full dose first.
        robustness: beside them.
        limits: that it was held against.
        verdicts: one for each limit (and dose).
        pictures: for the page; not in the JSON.
    """

    denoiser: Mapping[str, str]
    phantom: Mapping[str, float]
    doses: tuple[DoseResult, ...]
    robustness: RobustnessFigures
    limits: Mapping[str, float | None]
    verdicts: tuple[Verdict, ...]
    pictures: tuple[Picture, ...] = field(default=(), repr=False, metadata={"json": False})

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Verdicts that did not pass."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fail")

    def at(self, dose: float) -> DoseResult:
        """The result at a dose.

        Raises:
            KeyError: if it was not measured.
        """
        return {result.dose: result for result in self.doses}[dose]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries; NaN is None, infinity the word."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


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
