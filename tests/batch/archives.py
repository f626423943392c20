"""Small archives, and what has to hold of a folder of results."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.inline import InlinePool
from dicom.synthetic import Series

from iscl_monai.batch.denoise import denoise_archive
from iscl_monai.batch.ledger import FILE
from iscl_monai.batch.summary import Summary
from iscl_monai.batch.worker import Settings
from iscl_monai.dicom.derive import moment_of
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.series import denoise_series

UID = "1.2.826.0.1.3680043.8.498.5"


def small(number: int, **more: Any) -> Series:
    """A series that differs from that of every other number."""
    given = {"slots": range(2), "rows": 24, "columns": 20, "series_uid": f"{UID}.{number}", "seed": number, **more}
    return Series(**given)


@dataclass(frozen=True)
class Place:
    """An archive, where its results go, and with what.

    Attributes:
        source: folder of folders.
        out: of results.
        settings: of the denoiser.
    """

    source: Path
    out: Path
    settings: Settings

    def run(self, source: Path | None = None, **options: Any) -> tuple[Summary, InlinePool]:
        """In this process; ``before`` is for the pool, ``settings`` others than usual."""
        pools = []
        before, settings = options.pop("before", lambda call: None), options.pop("settings", self.settings)

        def make_pool(*given: Any) -> InlinePool:
            pools.append(InlinePool(*given, before))
            return pools[-1]

        summary = denoise_archive(source or self.source, self.out, settings=settings, make_pool=make_pool, **options)
        return summary, pools[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the ledger has."""
        with sqlite3.connect(self.out / FILE) as base:
            return base.execute(query).fetchall()

    def states(self) -> dict[str, str]:
        """State of each series, by the last number of its UID."""
        return {uid.rpartition(".")[2]: state for uid, state in self.rows("SELECT series_uid, state FROM series")}

    def result(self, number: int) -> Path:
        """The folder of a series."""
        ((name,),) = self.rows(f"SELECT result FROM series WHERE series_uid = '{UID}.{number}'")
        return self.out / "series" / name.decode()


def check_whole(place: Place, done: set[int], refused: set[int]) -> None:
    """In is out and refused, nothing was done twice, and nothing but whole folders is there.

    Args:
        place: of the results.
        done: numbers of the series that have to be there.
        refused: of those that have not.
    """
    expected = {str(number): "done" for number in done} | {str(number): "refused" for number in refused}
    assert place.states() == expected
    finished = place.rows("SELECT count(*) FROM attempts WHERE ended LIKE 'done%' GROUP BY key")
    assert finished == [(1,)] * len(done), "each exactly once"
    assert not place.rows("SELECT * FROM attempts WHERE ended = ''")
    folders = {path.parent for path in (place.out / "series").rglob("*.dcm") if path.parent.name != "residual"}
    assert folders == {place.result(number) for number in done}
    assert not list(place.out.rglob("*.partial"))


def check_as_denoised(place: Place, number: int, source: Path, alone: Path) -> None:
    """The same files, byte for byte, as ``denoise`` makes of the series alone with the same time on them."""
    import pydicom

    result = place.result(number)
    first = pydicom.dcmread(result / "00001.dcm", stop_before_pixels=True)
    settings = place.settings
    denoise_series(
        source,
        alone,
        denoiser=Denoiser.from_bundle(settings.bundle, device="cpu", strength=settings.strength),
        moment=moment_of(first),
        save_residual=settings.save_residual,
        training=TrainingRecord.of_bundle(settings.bundle),
    )
    assert contents(result) == contents(alone)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
