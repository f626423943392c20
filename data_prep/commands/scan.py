"""``python -m data_prep scan``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_prep.commands.progress import progress_bar
from iscl_monai.console import cells, say, table_console
from iscl_monai.extras import check_extra
from iscl_monai.spoken import tell_program

if TYPE_CHECKING:
    from data_prep.archive.scan import Scanned


def scan(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Folder to look through, with all below it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results, outside of ARCHIVE.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; default: one for each core.", show_default=False)
    ] = None,
    keep_patient_ids: Annotated[
        bool, typer.Option("--keep-patient-ids", help="Write Patient IDs themselves, not pseudonyms.")
    ] = False,
    no_pixels: Annotated[
        bool, typer.Option("--no-pixels", help="Read headers alone: faster; no noise, no pictures.")
    ] = False,
) -> None:
    """Find the CT series in an archive and say which are fit for training, and why the others are not.

    Writes series.parquet and series.csv (one row for each series), skipped.csv (every other file, with the reason) and
    index.html to look at. ARCHIVE is only read. A scan that was ended goes on where it was: give the same command.

    Patients get pseudonyms, and no free text of the headers is copied. Paths are written as they are.

    Example:
        python -m data_prep scan /archive/ct scanned/
    """
    check_extra("data", "a table of an archive")
    from data_prep.archive.scan import scan_archive

    with progress_bar("files") as on_file, progress_bar("series") as on_series:
        scanned = scan_archive(
            archive,
            out,
            workers=workers or os.cpu_count() or 1,
            keep_patient_ids=keep_patient_ids,
            pixels=not no_pixels,
            on_file=on_file,
            on_series=on_series,
        )
    _tell(scanned, archive)
    _print(scanned, archive)


def _tell(scanned: Scanned, archive: Path) -> None:
    from data_prep.archive.counts import verdict_counts
    from data_prep.archive.stands_out import remarks

    rows = scanned.rows
    tell_program(
        series=len(rows),
        fit=sum(row.fit for row in rows),
        files=scanned.files,
        skipped=len(scanned.skipped),
        verdicts=dict(verdict_counts(rows)),
        stands_out=[
            {
                "what": remark.title,
                "advice": remark.advice,
                "series": [{"path": rows[index].path, "found": words} for index, words in remark.series],
            }
            for remark in remarks(rows, str(archive))
        ],
        written=[str(path) for path in scanned.written],
    )


def _print(scanned: Scanned, archive: Path) -> None:
    from rich.table import Column, Table

    from data_prep.archive.counts import reason_counts, verdict_counts
    from data_prep.archive.stands_out import remarks

    console = table_console()
    series, files = (
        Table(Column(head, overflow="fold"), count, box=None)
        for head, count in (("verdict", "series"), ("skipped because", "files"))
    )
    for verdict, count in verdict_counts(scanned.rows):
        series.add_row(*cells(verdict, str(count)), style="green" if verdict == "fit" else None)
    for reason, count in reason_counts(scanned.skipped)[:10]:
        files.add_row(*cells(reason, str(count)))
    console.print(series if scanned.rows else "no CT series")
    if scanned.skipped:
        console.print()
        console.print(files)
    fit = sum(row.fit for row in scanned.rows)
    console.print()
    say(f"{fit} of {len(scanned.rows)} series are fit; {scanned.files} files.")
    for remark in remarks(scanned.rows, str(archive)):
        say(f"{len(remark.series)} stand out: {remark.title}: {remark.advice}")
    for path in scanned.written:
        typer.echo(path)
