"""The benchmark as one HTML file: tables, and the same slices of every method side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.evaluation.benchmark.result import Benchmark, Row
from iscl_monai.evaluation.benchmark.score import LoadedPair
from iscl_monai.evaluation.benchmark.table import all_tables
from iscl_monai.evaluation.equal_noise.pictures import plots_of
from iscl_monai.evaluation.equal_noise.tables import HOW_TO_READ, REFERENCES, tables_at
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.protocol import Protocol
from iscl_monai.report.budget import within
from iscl_monai.report.pages import write_page
from iscl_monai.report.section import Section, table_section
from iscl_monai.report.viewer import ViewedSlice, Viewer, difference_pane, hu_pane, window_of_body

TITLE = "Benchmark of denoisers"

Slice = NDArray[np.float32]
Named = tuple[str, Slice]


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
        viewers: pictures, of one patient each.
        left_out: how many patients the page has no room for.
        made_with: versions, data and settings.
    """

    title: str
    trained: Sequence[str]
    steps: int
    chose_weights: bool
    notes: Sequence[str]
    sections: Sequence[Section]
    viewers: Sequence[Viewer]
    left_out: int
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
    every = within(_patients(result, pairs))
    viewers = [viewer for viewer in every if viewer is not None]
    page = BenchmarkPage(
        title=TITLE,
        trained=list(dict.fromkeys(row.method.title for row in result.rows if row.method.training)),
        steps=result.steps,
        chose_weights=result.section == "validation",
        notes=result.notes(),
        sections=[*(table_section(table) for table in all_tables(result, protocols)), *_at_equal_noise(result)],
        viewers=viewers,
        left_out=len(every) - len(viewers),
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


def _patients(result: Benchmark, pairs: Sequence[LoadedPair]) -> list[Viewer]:
    """The middle slice of each patient's first scan, in the order of the pairs."""
    files = [(row, np.load(row.pictures)) for row in result.rows if row.pictures is not None and row.pictures.is_file()]
    first = {pair.patient: pair for pair in reversed(pairs)}
    return [
        _viewer(
            patient,
            [(_title(row), slices[patient].astype(np.float32)) for row, slices in files],
            pair.clean_hu[len(pair.clean_hu) // 2],
        )
        for patient, pair in reversed(first.items())
    ]


def _viewer(patient: str, images: Sequence[Named], reference_hu: Slice) -> Viewer:
    """What every method made of a slice, the reference, and the errors; all cut to the body."""
    body = _box_of_body(reference_hu)
    reference = reference_hu[body]
    panes = [hu_pane(name, image[body]) for name, image in images]
    errors = [difference_pane(f"{name}, minus reference", image[body] - reference) for name, image in images]
    one = ViewedSlice(name="", panes=[*panes, hu_pane("Reference", reference), *errors])
    return Viewer(name=f"Patient {patient}", slices=[one], window=window_of_body([reference_hu]))


def _box_of_body(image_hu: Slice) -> tuple[slice, slice]:
    """The smallest rectangle round the body; everything where there is none."""
    found = ndimage.find_objects(body_mask(image_hu)[0].astype(np.uint8))
    rows, columns = found[0] if found else (slice(None), slice(None))
    return rows, columns


def _title(row: Row) -> str:
    return f"{row.method.title}, seed {row.seed}" if row.method.training else row.method.title
