"""``python -m data_prep dose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_prep.commands.progress import progress_bar


def dose(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder with one CT series.")],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="Folder to make.")],
    fraction: Annotated[float, typer.Option(help="Dose over the scan's, e.g. 0.25; 1 adds no noise.")],
    z_range: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LO HI", help="Keep the slices at these positions (mm).")
    ] = None,
    average: Annotated[int, typer.Option(help="Average so many neighbouring slices first.")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed gives another noise.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Slices worked on at the same time.  [default: the CPU cores]", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where torch has a GPU.")] = "cpu",
    series_uid: Annotated[
        str | None, typer.Option(metavar="UID", help="Which series, when SOURCE holds several.")
    ] = None,
) -> None:
    """Simulate a scan at a fraction of its dose, by adding the noise it would have had.

    The scan's own noise is measured; the added noise follows from it and from the anatomy: slices through shoulders
    get more. The result is a new DICOM series, marked as simulated in ImageType, SeriesDescription and
    DerivationDescription. The same arguments give the same files.

    Example, a pair of 3 mm series from 1 mm slices:

        python -m data_prep dose scan/ clean/ --fraction 1 --average 3

        python -m data_prep dose scan/ noisy/ --fraction 0.1 --average 3
    """
    from data_prep.dose.series import simulate_series

    with progress_bar("slices") as progress:
        written = simulate_series(
            source,
            destination,
            fraction=fraction,
            z_range_mm=z_range,
            series_uid=series_uid,
            seed=seed,
            average=average,
            workers=workers,
            device=device,
            progress=progress,
        )
    typer.echo(written.folder)
