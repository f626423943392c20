"""Slices as pictures: Hounsfield windows, grey PNG inside the page, details at the pixels' own size."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.report.case import ReportCase

DETAIL_PART = 4


@dataclass(frozen=True)
class View:
    """A named Hounsfield window for pictures, level/width."""

    name: str
    window: HUWindow


SOFT_TISSUE = View("soft tissue 40/400", HUWindow(-160, 240))
LUNG = View("lung -600/1500", HUWindow(-1350, 150))
REMOVED = View("before minus after, ±100 HU", HUWindow(-100, 100))
REMOVED_CLOSE = View("before minus after, ±50 HU", HUWindow(-50, 50))
ERROR_LEFT = View("after minus reference, ±100 HU", HUWindow(-100, 100))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with its caption.

    Args:
        label: what it is.
        window: name of the view, after the label; may be empty.
        alt: what readers who cannot see it are told.
        address: the picture itself, as a ``data:`` address.
        kind: style classes, e.g. ``detail``.
        lazy: not to be decoded before it is scrolled to.
    """

    label: str
    window: str
    alt: str
    address: str
    kind: str = ""
    lazy: bool = False


@dataclass(frozen=True)
class PictureRow:
    """One row of a case's pictures.

    Args:
        view: window of before, after and reference.
        difference: window of the last picture.
        detail: a magnified square round the middle of the body instead of the whole slice.
    """

    view: View
    difference: View
    detail: bool = False


DETAIL = PictureRow(View(f"{SOFT_TISSUE.name}, detail", SOFT_TISSUE.window), REMOVED, detail=True)
WITHOUT_REFERENCE = (PictureRow(SOFT_TISSUE, REMOVED), DETAIL, PictureRow(LUNG, REMOVED_CLOSE))
WITH_REFERENCE = (PictureRow(SOFT_TISSUE, REMOVED), DETAIL, PictureRow(LUNG, ERROR_LEFT))


def png_address(image_hu: NDArray[np.float32], view: View) -> str:
    """A grey PNG of the window as a ``data:`` address.

    Args:
        image_hu: HU (row, column).
        view: what is black and what is white.
    """
    grey = np.rint((view.window.to_network(image_hu) + 1) * 127.5).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def detail_of(image_hu: NDArray[Any]) -> tuple[slice, slice]:
    """A quarter of the slice each way, round the middle of the body: pixels a report's width can show."""
    places = np.argwhere(body_mask(image_hu)[0])
    rows, columns = np.shape(image_hu)
    middle = places.mean(axis=0) if len(places) else np.array([rows / 2, columns / 2])
    size = max(1, min(rows, columns) // DETAIL_PART)
    top, left = (
        int(min(max(0, centre - size / 2), length - size))
        for centre, length in zip(middle, (rows, columns), strict=True)
    )
    return slice(top, top + size), slice(left, left + size)


def case_figures(case: ReportCase, rows: Sequence[PictureRow] = ()) -> list[Figure]:
    """Rows of before | after | reference | difference.

    Args:
        case: what to show.
        rows: which pictures; default: whole slice, detail, lung window.
    """
    rows = rows or (WITHOUT_REFERENCE if case.reference_hu is None else WITH_REFERENCE)
    return [figure for row in rows for figure in _row_figures(case, row)]


def _row_figures(case: ReportCase, row: PictureRow) -> list[Figure]:
    # A detail is magnified: show its pixels, do not smooth what is to be judged.
    kind = "detail" if row.detail else "whole"
    return [
        Figure(
            label=label,
            window=view.name,
            alt=f"{case.name}: {label}",
            address=png_address(image_hu, view),
            kind=kind if place else f"{kind} first",
        )
        for place, (label, view, image_hu) in enumerate(_row_images(case, row))
    ]


def _row_images(case: ReportCase, row: PictureRow) -> list[tuple[str, View, NDArray[np.float32]]]:
    whole = case.denoised_hu if case.noisy_hu is None else case.noisy_hu
    part = detail_of(whole) if row.detail else (slice(None), slice(None))
    noisy, denoised, reference = (
        None if hu is None else np.asarray(hu, dtype=np.float32)[part]
        for hu in (case.noisy_hu, case.denoised_hu, case.reference_hu)
    )
    assert denoised is not None  # only the other two may be missing
    named = (("Before", noisy), ("After", denoised), ("Reference", reference))
    shown = [(label, row.view, image_hu) for label, image_hu in named if image_hu is not None]
    if noisy is not None and (reference is None or row.difference is not ERROR_LEFT):
        shown.append(("Removed", row.difference, noisy - denoised))
    elif reference is not None:
        shown.append(("Error left", ERROR_LEFT, denoised - reference))
    return shown
