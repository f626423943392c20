"""The benchmark as one HTML file: tables, and the same slices of every method side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iscl_monai.evaluation.benchmark.result import Benchmark, Row
from iscl_monai.evaluation.benchmark.score import LoadedPair
from iscl_monai.evaluation.benchmark.table import all_tables
from iscl_monai.evaluation.equal_noise.pictures import plots_of
from iscl_monai.evaluation.equal_noise.tables import HOW_TO_READ, REFERENCES, tables_at
from iscl_monai.quality.protocol import Protocol
from iscl_monai.report.pages import write_page
from iscl_monai.report.pictures import ERROR_LEFT, LUNG, SOFT_TISSUE, Figure, View, detail_of, png_address
from iscl_monai.report.section import Section, table_section

TITLE = "Benchmark of denoisers"

Slice = NDArray[np.float32]
Named = tuple[str, Slice]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One view of all methods.

    Args:
        title: which part, in which window.
        figures: of the methods, the reference last.
    """

    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True, kw_only=True)
class PatientPictures:
    """One slice of a patient, in several views."""

    patient: str
    strips: Sequence[Strip]


@dataclass(frozen=True, kw_only=True)
class BenchmarkPage:
    """What ``templates/benchmark.html`` shows.

    Args:
        title: heading.
        trained: titles of the rows that were trained here.
        steps: of each training.
        chose_weights: whether the pairs that were scored also chose the weights.
        notes: what must be known of single rows.
        sections: tables.
        patients: pictures.
        made_with: versions, data and settings.
    """

    title: str
    trained: Sequence[str]
    steps: int
    chose_weights: bool
    notes: Sequence[str]
    sections: Sequence[Section]
    patients: Sequence[PatientPictures]
    made_with: Mapping[str, str]


def write_benchmark_page(
    path: Path, result: Benchmark, protocols: Sequence[Protocol], pairs: Sequence[LoadedPair]
) -> Path:
    """Write the report; it appears whole or not at all.

    Args:
        path: the file.
        result: of the benchmark.
        protocols: one table for each.
        pairs: that were scored; the middle slice of each patient's first scan is shown.
    """
    page = BenchmarkPage(
        title=TITLE,
        trained=list(dict.fromkeys(row.method.title for row in result.rows if row.method.training)),
        steps=result.steps,
        chose_weights=result.section == "validation",
        notes=result.notes(),
        sections=[*(table_section(table) for table in all_tables(result, protocols)), *_at_equal_noise(result)],
        patients=_patients(result, pairs),
        made_with=result.made_with,
    )
    return write_page(path, "benchmark.html", page)


def _at_equal_noise(result: Benchmark) -> list[Section]:
    """For each group of patients the curves, and the tables under them."""
    sections = []
    for group, curves in result.curves().items():
        title = f"Methods at equal noise, {group or REFERENCES}"
        sections.append(Section(title=title, intro=HOW_TO_READ, plots=plots_of(curves)))
        sections += [table_section(table) for table in tables_at(curves, group)]
    return sections


def _patients(result: Benchmark, pairs: Sequence[LoadedPair]) -> list[PatientPictures]:
    """The middle slice of each patient's first scan, in the order of the pairs."""
    files = [(row, np.load(row.pictures)) for row in result.rows if row.pictures is not None and row.pictures.is_file()]
    first = {pair.patient: pair for pair in reversed(pairs)}
    return [
        PatientPictures(
            patient=patient,
            strips=_strips(
                [(_title(row), slices[patient].astype(np.float32)) for row, slices in files],
                pair.clean_hu[len(pair.clean_hu) // 2],
            ),
        )
        for patient, pair in reversed(first.items())
    ]


def _strips(images: Sequence[Named], reference: Slice) -> list[Strip]:
    """The whole slice, its middle in two windows, and the errors."""
    detail = detail_of(reference)
    all_images = [*images, ("Reference", reference)]
    details = [(name, image[detail]) for name, image in all_images]
    errors = [(name, image - reference) for name, image in images]
    return [
        _strip("whole slice", all_images, SOFT_TISSUE),
        _strip("detail", details, SOFT_TISSUE),
        _strip("detail", details, LUNG),
        _strip("error", errors, ERROR_LEFT),
    ]


def _strip(part: str, images: Sequence[Named], view: View) -> Strip:
    figures = [
        Figure(label=name, window="", alt=name, address=png_address(np.ascontiguousarray(image), view))
        for name, image in images
    ]
    return Strip(title=f"{part}, {view.name}", figures=figures)


def _title(row: Row) -> str:
    return f"{row.method.title}, seed {row.seed}" if row.method.training else row.method.title
