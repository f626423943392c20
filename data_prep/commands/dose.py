"""``python -m data_prep dose``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_prep.commands.progress import progress_bar
from iscl_monai.console import IN_PART
from iscl_monai.errors import ConfigRefusal, OutputRefusal
from iscl_monai.spoken import tell_program

if TYPE_CHECKING:
    from data_prep.dose.archive import TableRequest
    from data_prep.dose.simulation import Simulation

TABLES = (".parquet", ".csv")


def dose(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder with one CT series, NIfTI file, or table of series.")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="Folder to make; for NIfTI a name that ends so.")
    ],
    fraction: Annotated[float, typer.Option(help="Dose over the scan's, e.g. 0.25; 1 adds no noise.")],
    z_range: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LO HI", help="Keep the slices at these positions (mm).")
    ] = None,
    average: Annotated[int, typer.Option(help="Average so many neighbouring slices first.")] = 1,
    thickness: Annotated[
        float | None, typer.Option(metavar="MM", help="Of a table: average thinner series to about this.")
    ] = None,
    body_part: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="Of a table: only this BodyPartExamined; repeatable.")
    ] = None,
    clean_below: Annotated[
        float | None, typer.Option(metavar="HU", help="Of a table: only series with less noise than this.")
    ] = None,
    accept_calibration: Annotated[
        bool,
        typer.Option("--accept-calibration", help="Simulate although the virtual scanner does not explain the scan."),
    ] = False,
    accept_iterative: Annotated[
        bool, typer.Option("--accept-iterative", help="Simulate from an iterative reconstruction all the same.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed gives another noise.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Slices worked on at the same time.  [default: the CPU cores]", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where torch has a GPU.")] = "cpu",
    series_uid: Annotated[
        str | None, typer.Option(metavar="UID", help="Which series, when SOURCE holds several.")
    ] = None,
    trust_hu: Annotated[
        bool,
        typer.Option("--trust-hu", help="Of a NIfTI file: the values are HU though no air is seen, e.g. in a crop."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Of one series: also write pictures and spectra of the noise.")
    ] = None,
) -> None:
    """Simulate scans at a fraction of their dose, by adding the noise they would have had.

    A virtual fan-beam scanner is fitted to the scan: its photons to the strength of the scan's noise, its kernel to the
    texture. The noise of the photons that would be missing is reconstructed and added, so slices through shoulders get
    more, and streaks appear where hardly any photon arrives. The result is a new DICOM series, marked as simulated in
    ImageType, SeriesDescription and DerivationDescription. The same arguments give the same files but for their dates;
    an interrupted run goes on where it was.

    A scan is refused where the virtual scanner's own noise is not that of the scan, or where headers name an iterative
    reconstruction, whose noise is not linear; the --accept options simulate all the same, and the result says so.

    Given a table from `scan`, every series in it that is fit for training is simulated, unless it is said to be of low
    dose, and a table is written that `split` can read. Patient names and IDs stay in the headers of what is made. A
    series that is refused does not hold up the others; it is named at the end, and the exit code is then 3.

    Examples, a scan; a pair of 3 mm series from 1 mm slices; a NIfTI file; a whole archive:

        python -m data_prep dose scan/ low/ --fraction 0.25 --report low.html

        python -m data_prep dose scan/ clean/ --fraction 1 --average 3

        python -m data_prep dose scan/ noisy/ --fraction 0.1 --average 3

        python -m data_prep dose scan.nii.gz low.nii.gz --fraction 0.25

        python -m data_prep dose table/ low/ --fraction 0.25 --thickness 3 --body-part CHEST
    """
    from data_prep.dose.simulation import Acceptance

    accepted = Acceptance(calibration=accept_calibration, iterative=accept_iterative)
    common: dict[str, Any] = {"seed": seed, "accepted": accepted, "workers": workers, "device": device}
    given = {
        "--z-range": z_range is not None,
        "--average": average != 1,
        "--series-uid": series_uid is not None,
        "--thickness": thickness is not None,
        "--body-part": bool(body_part),
        "--clean-below": clean_below is not None,
        "--report": report is not None,
        "--trust-hu": trust_hu,
    }
    if report is not None:
        _check_report(report, fraction)
    if source.suffix.lower() in TABLES or (source / "series.parquet").is_file():
        from data_prep.dose.archive import TableRequest

        _only(given, {"--thickness", "--body-part", "--clean-below"}, "a table")
        request = TableRequest(
            fraction=fraction,
            thickness_mm=thickness,
            body_parts=tuple(body_part or ()),
            clean_below_hu=clean_below,
            seed=common.pop("seed"),
            accepted=common.pop("accepted"),
        )
        _table(source, destination, request, **common)
    elif source.name.lower().endswith((".nii", ".nii.gz")):
        _only(given, {"--trust-hu"}, "a NIfTI file")
        from data_prep.dose.nifti import simulate_volume

        with progress_bar("slices") as progress:
            options = {**common, "trust_hu": trust_hu, "warn": _warn, "progress": progress}
            typer.echo(simulate_volume(source, destination, fraction=fraction, **options))
    else:
        _only(given, {"--z-range", "--average", "--series-uid", "--report"}, "one series")
        common |= {"series_uid": series_uid, "z_range_mm": z_range, "average": average}
        _series(source, destination, fraction, report, common)


def _check_report(report: Path, fraction: float) -> None:
    """Before hours of work, not after."""
    if fraction >= 1:
        raise ConfigRefusal("--report with --fraction 1", allowed="noise to report on", cure="leave it out")
    if report.suffix == ".json":
        raise ConfigRefusal(
            f"--report {report}",
            allowed="an HTML page, whose numbers go into a .json beside it",
            cure="end it with .html",
        )
    taken = report.exists() or report.with_suffix(".json").exists()
    if taken or not os.access(report.absolute().parent, os.W_OK):
        raise OutputRefusal(
            f"--report {report} (or its .json) exists or cannot be written",
            allowed="a new file in a folder",
            cure="give another name",
        )


def _only(given: dict[str, bool], allowed: set[str], what: str) -> None:
    """Refuse options that would be ignored."""
    for option in (name for name, is_given in given.items() if is_given and name not in allowed):
        raise ConfigRefusal(
            f"{option} for {what}", allowed=", ".join(sorted(allowed)) or "none of these", cure="leave it out"
        )


def _series(source: Path, destination: Path, fraction: float, report: Path | None, options: dict[str, Any]) -> None:
    from data_prep.dose.nifti import is_nifti, simulate_series_as_volume
    from data_prep.dose.series import simulate_series

    with progress_bar("slices") as progress:
        if is_nifti(destination):
            if report is not None:
                raise ConfigRefusal("--report with a NIfTI file", allowed="a DICOM series", cure="leave it out")
            options |= {"warn": _warn, "progress": progress}
            volume = simulate_series_as_volume(source, destination, fraction=fraction, **options)
            tell_program(written=[str(volume)])
            typer.echo(volume)
            return
        made = simulate_series(source, destination, fraction=fraction, progress=progress, **options)
    tell_program(
        written=[str(made.folder)],
        slices=made.slices,
        noise_hu=made.noise_hu,
        starved=made.starved,
        warnings=list(made.simulation.warnings),
    )
    typer.echo(made.folder)
    for warning in made.simulation.warnings:
        _warn(warning)
    if made.scanner is not None:
        typer.echo(
            f"{made.slices} slices; noise of the scan {made.noise_hu:.1f} HU; kernel {made.scanner.kernel.name}, "
            f"half at {made.scanner.kernel.half_per_mm:.2f}/mm; {100 * made.starved:.2g} % of the rays starved; "
            f"own noise {_own_noise(made.simulation)} times the scan's",
            err=True,
        )
    if report is not None and made.scanner is not None:
        from data_prep.dose.report import write_dose_report

        write_dose_report(made.simulation, report)
        tell_program(report=[str(report), str(report.with_suffix(".json"))])
        typer.echo(report)


def _own_noise(simulation: Simulation) -> str:
    return "" if simulation.check is None else f"{simulation.check.own_over_scan:.2f}"


def _warn(warning: str) -> None:
    typer.echo(f"WARNING: {warning}", err=True)


def _table(source: Path, destination: Path, request: TableRequest, **options: Any) -> None:
    from data_prep.dose.archive import simulate_table, slices_to_simulate
    from data_prep.table import read_table

    with progress_bar("slices", slices_to_simulate(read_table(source), request)) as progress:
        batch = simulate_table(source, destination, request=request, progress=progress, **options)
    for warning in batch.warnings:
        _warn(warning)
    tell_program(
        written=[str(batch.table)],
        made=batch.made,
        left_out=dict(batch.left_out),
        refused=[str(refusal) for refusal in batch.refused],
        warnings=list(batch.warnings),
    )
    left_out = "; ".join(f"{count} left as they were: {reason}" for reason, count in batch.left_out.most_common())
    typer.echo(f"{batch.made} series made; {left_out or 'none left out'}", err=True)
    typer.echo(batch.table)
    for refusal in batch.refused:
        print(f"refused: {refusal}", file=sys.stderr)
    if batch.refused:
        raise typer.Exit(IN_PART)
