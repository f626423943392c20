"""``python -m data_prep truth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_prep.commands.progress import progress_bar
from iscl_monai.spoken import tell_program


def truth(
    source: Annotated[Path, typer.Argument(metavar="SCAN", help="Folder with one quiet CT series, evenly spaced.")],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    fraction: Annotated[float, typer.Option(help="Low dose over the scan's.")] = 0.25,
    average: Annotated[int, typer.Option(help="Average so many neighbouring slices first.")] = 1,
    z_range: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LO HI", help="Keep the slices at these positions (mm).")
    ] = None,
    series_uid: Annotated[
        str | None, typer.Option(metavar="UID", help="Which series, when SCAN holds several.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other noise.")] = 0,
    accept_calibration: Annotated[
        bool,
        typer.Option("--accept-calibration", help="Although the virtual scanner does not explain the scan."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Slices worked on at the same time.  [default: the CPU cores]", show_default=False),
    ] = None,
) -> None:
    """Make a virtual patient of real anatomy: a truth without noise, and two doses of it whose noise is known.

    A quiet scan's noise is taken away, by averaging thin slices and by shrinking those wavelet coefficients that the
    noise of its own virtual scanner explains. The truth is then scanned at the scan's dose and at a fraction of it. OUT
    gets truth.nii.gz, full.nii.gz, low.nii.gz, and truth.json with what was done and what noise is left. In a datalist
    they are a pair: "noisy": low, "clean": full, "truth": truth, "truth_protocol": "truth-real-anatomy".

    Example, 3 mm slices from a 1 mm scan, and a quarter of its dose:

        python -m data_prep truth scan/ truth/ --average 3 --fraction 0.25
    """
    from data_prep.dose.simulation import Acceptance
    from data_prep.dose.truth import make_truth

    with progress_bar("slices") as progress:
        record = make_truth(
            source,
            destination,
            fraction=fraction,
            average=average,
            z_range_mm=z_range,
            series_uid=series_uid,
            seed=seed,
            accepted=Acceptance(calibration=accept_calibration),
            workers=workers,
            progress=progress,
        )
    tell_program(
        written=[str(destination)],
        scan_noise_hu=record.scan_noise_hu,
        residual_noise_hu=record.residual_noise_hu,
        full_noise_hu=record.full_noise_hu,
        low_noise_hu=record.low_noise_hu,
    )
    typer.echo(destination)
    typer.echo(
        f"noise of the scan {record.scan_noise_hu:.1f} HU, left in the truth {record.residual_noise_hu:.1f} HU; "
        f"put on it {record.full_noise_hu:.1f} and {record.low_noise_hu:.1f} HU",
        err=True,
    )
