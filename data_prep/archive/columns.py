"""The columns of an archive's page: which fact of a series each shows, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_prep.table import SeriesRow
from iscl_monai.report.numbers import NOT_GIVEN, significant


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fact of a series.

    Args:
        value: what the column is sorted by; empty where it is not known.
        text: what is shown.
        small: a line below; may be empty.
    """

    value: str
    text: str
    small: str


def _no_small_line(row: SeriesRow) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        name: heading.
        hint: what it means, shown over the heading; may be empty.
        value: the fact.
        small: a second one, below it.
        words: whether it holds words, not numbers.
    """

    name: str
    hint: str
    value: Callable[[SeriesRow], object]
    small: Callable[[SeriesRow], str] = _no_small_line
    words: bool = False

    def cell(self, row: SeriesRow) -> Cell:
        """The fact of one series."""
        value = self.value(row)
        text = significant(value) if isinstance(value, float) else str(value)
        return Cell(
            value="" if value is None else str(value),
            text=NOT_GIVEN if value in (None, "", "unknown") else text,
            small=self.small(row),
        )


def _tilt(row: SeriesRow) -> str:
    return f"tilt {row.tilt_deg:.1f}°" if row.tilt_deg is not None and row.tilt_deg >= 1 else ""


def _thickness(row: SeriesRow) -> str:
    return f"{row.slice_thickness_mm:.3g} mm thick" if row.slice_thickness_mm else ""


def _size(row: SeriesRow) -> str:
    return f"{row.rows} x {row.columns}"


def _dose_fraction(row: SeriesRow) -> str:
    return f"{row.dose_fraction:g} of the original" if row.dose_fraction < 1 else ""


def _contrast(row: SeriesRow) -> str:
    return "contrast agent" if row.contrast else ""


VERDICT = Column(name="verdict", hint="fit for training, or why not", value=lambda row: row.verdict, words=True)
COLUMNS = (
    Column(name="geometry", hint="where the slices lie", value=lambda row: row.geometry, small=_tilt, words=True),
    Column(name="slices", hint="how many", value=lambda row: row.slices),
    Column(name="step mm", hint="usual distance of slices", value=lambda row: row.slice_step_mm, small=_thickness),
    Column(name="pixel mm", hint="distance of pixels", value=lambda row: row.pixel_spacing_mm, small=_size),
    Column(name="field mm", hint="field of view", value=lambda row: row.field_of_view_mm),
    Column(name="noise HU", hint="in the quietest soft tissue of a few slices", value=lambda row: row.noise_hu),
    Column(name="peak /mm", hint="where the noise power spectrum is highest", value=lambda row: row.noise_peak_per_mm),
    Column(name="kernel", hint="ConvolutionKernel", value=lambda row: row.kernel, words=True),
    Column(
        name="iterative",
        hint="iterative or learned reconstruction that the headers name, and its strength",
        value=lambda row: row.reconstruction,
        words=True,
    ),
    Column(
        name="scanner",
        hint="model and maker",
        value=lambda row: row.model,
        small=lambda row: row.manufacturer,
        words=True,
    ),
    Column(name="kV", hint="KVP", value=lambda row: row.kvp),
    Column(name="mAs", hint="tube current times exposure time", value=lambda row: row.mas),
    Column(name="CTDIvol mGy", hint="mean over slices", value=lambda row: row.ctdi_vol_mgy),
    Column(
        name="dose",
        hint="low or full where something says so",
        value=lambda row: row.dose_class,
        small=_dose_fraction,
        words=True,
    ),
    Column(name="body part", hint="", value=lambda row: row.body_part, small=_contrast, words=True),
    Column(name="patient", hint="", value=lambda row: row.patient, words=True),
)
"""After picture and verdict; the folder follows."""
