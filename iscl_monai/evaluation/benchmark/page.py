"""The benchmark as one HTML file: tables, and the same slices of every method side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iscl_monai.durable import whole_file
from iscl_monai.evaluation.benchmark.result import Benchmark, Row
from iscl_monai.evaluation.benchmark.score import LoadedPair
from iscl_monai.evaluation.benchmark.table import cost_table, fidelity_table, patients_table, physics_table
from iscl_monai.quality.protocol import Protocol
from iscl_monai.report.page import (
    DISCLAIMER,
    ERROR_LEFT,
    LUNG,
    SOFT_TISSUE,
    View,
    detail_of,
    page_html,
    png_address,
    provenance_html,
)

TITLE = "Benchmark of denoisers"
WHAT_IT_SHOWS = (
    "All learned methods saw the same patches of the same scans, in the same order, for the same number of steps, with "
    "networks of the same width. Supervised ones were given pairs, which a hospital does not have: they show what "
    "learning without pairs costs. Numbers of two protocols cannot be compared."
)
CHOSEN = "Scored on validation pairs, which chose the weights of every learned method: not the numbers of unseen scans."
STYLE = """<style>
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: .75rem;
  margin: .5rem 0 1.25rem; }
.strip img { image-rendering: pixelated; }
</style>"""


def write_page(path: Path, result: Benchmark, protocols: Sequence[Protocol], pairs: Sequence[LoadedPair]) -> Path:
    """Write the report; it appears whole or not at all.

    Args:
        path: the file.
        result: of the benchmark.
        protocols: one table for each.
        pairs: that were scored; the middle slice of each patient's first scan is shown.
    """
    physics = physics_table(result)
    body = [
        STYLE,
        f"<h1>{TITLE}</h1>",
        f'<p class="warning"><strong>{DISCLAIMER}.</strong></p>',
        f"<p>{escape(WHAT_IT_SHOWS)} Steps: {result.steps}.</p>",
        f"<p>{escape(CHOSEN)}</p>" if result.section == "validation" else "",
        *(f"<section>{fidelity_table(result, protocol).html()}</section>" for protocol in protocols),
        f"<section>{patients_table(result, protocols[0]).html()}</section>",
        f"<section>{physics.html()}</section>" if physics else "",
        f"<section>{cost_table(result).html()}</section>",
        *_patients(result, pairs),
        provenance_html(result.made_with),
    ]
    with whole_file(path) as file:
        file.write(page_html(TITLE, "\n".join(part for part in body if part)).encode("utf-8"))
    return path


def _patients(result: Benchmark, pairs: Sequence[LoadedPair]) -> list[str]:
    """A section for each patient."""
    shown = [row for row in result.rows if row.pictures is not None and row.pictures.is_file()]
    files = [(row, np.load(row.pictures)) for row in shown if row.pictures is not None]
    sections = []
    for patient, pair in {pair.patient: pair for pair in reversed(pairs)}.items():
        reference = pair.clean_hu[len(pair.clean_hu) // 2]
        images = [(_named(row), held[patient].astype(np.float32)) for row, held in files]
        sections.append(
            f"<section>\n<h2>Patient {escape(patient)}</h2>\n"
            + _strip("whole slice", reference, images, SOFT_TISSUE, slice(None))
            + _strip("detail", reference, images, SOFT_TISSUE, detail_of(reference))
            + _strip("detail", reference, images, LUNG, detail_of(reference))
            + _strip("error", None, [(name, image - reference) for name, image in images], ERROR_LEFT, slice(None))
            + "</section>"
        )
    return list(reversed(sections))


def _named(row: Row) -> str:
    return f"{row.method.title}, seed {row.seed}" if row.method.training else row.method.title


def _strip(
    what: str,
    reference: NDArray[np.float32] | None,
    images: Sequence[tuple[str, NDArray[np.float32]]],
    view: View,
    part: slice | tuple[slice, slice],
) -> str:
    """One view of all methods, the reference last."""
    every = [*images, *([("Reference", reference)] if reference is not None else [])]
    figures = "".join(
        f'<figure><img src="{png_address(np.ascontiguousarray(image[part]), view)}" alt="{escape(name)}">'
        f"<figcaption><b>{escape(name)}</b></figcaption></figure>\n"
        for name, image in every
    )
    return f'<p>{escape(what)}, {escape(view.name)}</p>\n<div class="strip">\n{figures}</div>\n'
