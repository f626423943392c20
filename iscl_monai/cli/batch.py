"""``iscl-monai batch``: argument parsing and a progress bar; everything else is the package's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import BundleOption, KeepPrivateOption, found_bundle
from iscl_monai.console import DISCLAIMER, IN_PART, cells, exit_codes, say, table_console
from iscl_monai.extras import check_extra
from iscl_monai.spoken import progress_console, tell_program

if TYPE_CHECKING:
    from iscl_monai.batch.run import Event
    from iscl_monai.batch.summary import Summary


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A tree of DICOM folders, or a table (.csv, .parquet) of iscl-monai scan."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of results: new, or of an earlier run, which goes on.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes with a model each.  [default: one for each GPU, or else core]", show_default=False
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of a running Ray cluster, or auto.  [default: this machine]", show_default=False
        ),
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="As of iscl-monai denoise.")] = 1.0,
    target_noise: Annotated[
        float | None, typer.Option(metavar="HU", min=0, help="As of iscl-monai denoise.", show_default=False)
    ] = None,
    target_dose: Annotated[
        float | None, typer.Option(metavar="TIMES", help="As of iscl-monai denoise.", show_default=False)
    ] = None,
    mode: Annotated[str, typer.Option(help="ensemble, generator or extractor.")] = "ensemble",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    bundle: BundleOption = None,
    weights: Annotated[
        str | None, typer.Option(metavar="WHICH", help="trained, ensemble or student.", show_default=False)
    ] = None,
    save_residual: Annotated[bool, typer.Option("--save-residual", help="Also write what was removed.")] = False,
    keep_private: KeepPrivateOption = None,
    tile: Annotated[int | None, typer.Option(metavar="PIXELS", help="Work in seamless tiles.")] = None,
    tries: Annotated[
        int, typer.Option(min=1, help="Attempts at a series that ends its worker or lacks memory, until it is refused.")
    ] = 3,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Try again what an earlier run refused.")
    ] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be denoised, skipped and refused; write nothing.")
    ] = False,
) -> None:
    """Denoise a whole archive on many cores, GPUs or machines, by Ray; give the same command again to go on.

    Every original axial CT series becomes what `iscl-monai denoise` makes of it, in a folder of its own below
    OUT/series that appears whole or not at all. OUT/ledger.sqlite keeps what became of each: a killed worker, a killed
    run or a full disk loses nothing, and what is finished is not done again. OUT/index.html and OUT/summary.json tell
    of it.

    A series that is refused does not hold up the others, and the exit code is then 3. What ends its worker or lacks
    memory is tried again, and refused in the end.

    Examples:
        iscl-monai batch archive/ denoised/

        iscl-monai batch scanned/series.csv denoised/ --weights student --address auto
    """
    with exit_codes(left="what was finished is kept"):
        if dry:
            _dry_run(source, out)
            return
        check_extra("batch", "a batch")
        bundle = found_bundle(bundle).resolve()  # as workers see it, wherever they start
        from iscl_monai.batch.denoise import denoise_archive
        from iscl_monai.batch.ray_pool import RayPool
        from iscl_monai.batch.summary import summary_content
        from iscl_monai.batch.worker import Settings

        settings = Settings(
            bundle=bundle,
            device=device,
            mode=mode,
            strength=strength,
            tile_px=tile,
            weights=weights,
            target_noise_hu=target_noise,
            target_dose=target_dose,
            save_residual=save_residual,
            keep_private=tuple(keep_private or ()),
        )
        with _Progress() as progress:
            summary = denoise_archive(
                source,
                out,
                settings=settings,
                make_pool=lambda *given: RayPool(*given, workers=workers, address=address),
                tries=tries,
                retry_refused=retry_refused,
                watch=progress.show,
            )
        tell_program(out=str(out), **summary_content(summary))
        _print(summary, out)
        if summary.refused or summary.damaged_files:
            raise typer.Exit(IN_PART if summary.done else 2)


def _dry_run(source: Path, out: Path) -> None:
    from iscl_monai.batch.dry_run import dry_run
    from iscl_monai.cli.watching import counting
    from iscl_monai.report.numbers import counted

    with counting("folders", "looking through folders") as looked:
        planned = dry_run(source, out, looked=looked)
    tell_program(
        would_denoise=[{"title": one.title, "folder": str(one.folder), "slices": one.slices} for one in planned.series],
        would_refuse=list(planned.refused),
        skipped=dict(planned.skipped),
        absent=list(planned.absent),
        result_bytes=planned.result_bytes,
    )
    for one in planned.series:
        say(f"would denoise: {one.folder}: {one.title}, {counted(one.slices, 'slice')}")
    for reason in planned.refused:
        say(f"would refuse: {reason}")
    for name in planned.absent:
        say(f"not there: {name}")
    for reason, count in planned.skipped.items():
        say(f"would skip: {counted(count, 'file')}: {reason}")
    space = f"{counted(planned.slices, 'slice')}, about {planned.result_bytes / 2**20:.0f} MB"
    say(f"{len(planned.series)} series: {space}; nothing was written")


def _print(summary: Summary, out: Path) -> None:
    from rich.table import Column, Table

    table = Table("", Column("", overflow="fold"), box=None, show_header=False)
    for name, value in summary.rows():
        table.add_row(*cells(name, value))
    table_console().print(table)
    for one in summary.refused[:20]:
        say(f"refused: {one.reason}")
    if len(summary.refused) > 20:
        say(f"refused: {len(summary.refused) - 20} more, see {out / 'index.html'}")
    for path, reason in list(summary.damaged_files.items())[:20]:
        say(f"damaged: {path}: {reason}")
    say(f"written: {out} ({DISCLAIMER})")


class _Progress:
    """A bar of series; failures, which are tried again, and refusals stand above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("series"),
            TimeRemainingColumn(),
            console=progress_console(),
        )
        self.task = self.bar.add_task("starting workers", total=None)
        self.looked = 0
        self.settled: set[str] = set()

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def show(self, event: Event) -> None:
        """The next event."""
        if event.kind == "looked":
            self.looked += 1
            self.bar.update(self.task, description=f"looking through folders: {self.looked}")
        elif event.kind == "found":
            self.bar.update(self.task, description="denoising", total=event.count)
        elif event.kind == "kept":
            self.bar.advance(self.task, event.count)
        elif event.kind in ("done", "refused") and event.series is not None:
            if event.series.key not in self.settled:
                self.settled.add(event.series.key)
                self.bar.advance(self.task)
        elif event.kind == "failed" and event.series is not None:
            self.bar.console.print(f"tried again: {event.series.title}: {event.reason}", markup=False)
