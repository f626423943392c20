"""Archives for the tests of ``scan``, made to be good or wrong in one chosen way."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import (
    generate_uid,
)

from data_prep.archive.scan import Scanned, scan_archive
from data_prep.table import SeriesRow
from tests.dicom.synthetic import SCOUT, Change, Series, setting

GOOD = Series(rows=40, columns=48)


def headers_of(archive: Path, out: Path, **options: bool) -> Scanned:
    return scan_archive(archive, out, pixels=False, **options)


def one_row(archive: Path, **options: bool) -> SeriesRow:
    (row,) = headers_of(archive, archive.parent / "out", **options).rows
    return row


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def both(*changes: Change) -> Change:
    def change(dataset: FileDataset, index: int) -> None:
        for one in changes:
            one(dataset, index)

    return change


def tissue(sigma: float = 12.0) -> Change:
    def paint(dataset: FileDataset, index: int) -> None:
        hu = 40 + np.random.default_rng(index).normal(0, sigma, (dataset.Rows, dataset.Columns))
        dataset.PixelData = (hu.round() + 1024).astype("<u2").tobytes()

    return paint


def write_archive(archive: Path) -> None:
    """Everything that an archive may hold."""
    GOOD.write(archive / "good")
    replace(GOOD, series_uid=generate_uid(), slots=[0, 1, 3]).write(archive / "gap")
    replace(GOOD, series_uid="", change=setting(SeriesInstanceUID="")).write(archive / "blanked" / "a")
    replace(GOOD, series_uid="", change=setting(SeriesInstanceUID="")).write(archive / "blanked" / "b")
    scout = setting(**SCOUT)
    replace(GOOD, slots=[0], prefix="scout", change=scout).write(archive / "good")
    junk = archive / "junk"
    junk.mkdir()
    (junk / "empty").touch()
    (junk / 'notes, "quoted".txt').write_text("hello")
    (junk / "broken").symlink_to(junk / "nowhere")
    os.mkfifo(junk / "pipe")
    whole = (archive / "good" / "slice000").read_bytes()
    (junk / "short.dcm").write_bytes(whole[:400])


def files_below(archive: Path) -> set[str]:
    return {os.path.join(folder, name) for folder, _, names in os.walk(archive) for name in names}
