"""``python -m data_prep split``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.extras import check_extra
from iscl_monai.spoken import tell_program


def split(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="series.parquet (or .csv) of scan or dose, or its folder.")
    ],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="Folder for datalist.json.")],
    validation: Annotated[float, typer.Option(help="Share held out to choose the weights.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of patients held out for the test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    noisy_above: Annotated[
        float | None, typer.Option(metavar="HU", help="Real scans with this noise or more are noisy.")
    ] = None,
    clean_below: Annotated[
        float | None, typer.Option(metavar="HU", help="Real scans with this noise or less are clean.")
    ] = None,
    body_part: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this body part; may be repeated.")
    ] = None,
    by: Annotated[str, typer.Option(metavar="patient|z|auto", help="Divide whole patients, or parts of them.")] = (
        "auto"
    ),
    gap: Annotated[float, typer.Option(metavar="MM", help="Between two parts of one patient, at least 15.")] = 15.0,
    exclude_patient: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Leave this patient out; may be repeated.")
    ] = None,
    exclude_series: Annotated[
        list[str] | None,
        typer.Option(metavar="UID|PATH", help="Leave this series out, and those simulated from it; may be repeated."),
    ] = None,
    accept_iterative: Annotated[
        bool,
        typer.Option("--accept-iterative", help="Take iterative reconstructions beside filtered backprojections."),
    ] = False,
    patient_from: Annotated[
        str, typer.Option(metavar="study|folder", help="What stands for a missing patient; else such rows are refused.")
    ] = "",
) -> None:
    """Divide a table's series into two unpaired pools and pairs for validation and test, without leaks.

    The noisy pool gets low-dose scans (simulated or real), the clean pool full-dose scans of other patients, balanced
    in scanner, kernel, body part and slice thickness. Validation and test get pairs: a simulated scan and its
    original. Too few patients are cut along z, with a gap between the parts; the test gets whole patients only. What
    differs between the pools besides dose is printed: the network would learn it instead of noise.

    The same table and seed give the same datalist.

    From an archive to a datalist:

        python -m data_prep scan ARCHIVE OUT

        python -m data_prep dose OUT/series.parquet LOW --fraction 0.25

        python -m data_prep split LOW/series.parquet DATA

    Real noisy scans beside simulated ones, sorted by their noise:

        python -m data_prep split LOW DATA --noisy-above 18 --clean-below 13
    """
    check_extra("data", "a table of an archive")
    from data_prep.split.make import split_table
    from data_prep.split.request import SplitRequest
    from data_prep.split.show import show

    request = SplitRequest(
        validation=validation,
        test=test,
        seed=seed,
        noisy_above_hu=noisy_above,
        clean_below_hu=clean_below,
        body_parts=tuple(body_part or ()),
        by=by,
        gap_mm=gap,
        exclude_patients=tuple(exclude_patient or ()),
        exclude_series=tuple(exclude_series or ()),
        accept_iterative=accept_iterative,
        patient_from=patient_from,
    )
    path, made = split_table(table, destination, request)
    tell_program(written=[str(path)])
    show(path, made)
