"""``python -m data_prep mayo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.spoken import tell_program


def mayo(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the collection, one folder per patient.")],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="Folder for datalist.json.")],
    protocol: Annotated[str, typer.Option(metavar="iscl-tmi2021|ldct-bench", help="Which published split.")],
    region: Annotated[
        list[str] | None, typer.Option(metavar="abdomen|chest|neuro", help="Only this region; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed puts other training patients into the noisy pool.")] = 0,
    validation: Annotated[
        int | None,
        typer.Option(metavar="N", help="Training patients per region to validate on, where the split names none: 2."),
    ] = None,
    trained_on: Annotated[
        str, typer.Option(metavar="PROTOCOL", help="Split of the weights to score: refuse a test they have seen.")
    ] = "",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without patients that are not there.")
    ] = False,
) -> None:
    """Make the datalist of a published split of TCIA LDCT-and-Projection-data (Mayo Clinic).

    Layout below ROOT, as TCIA's downloaders make it: `<ID>/<study>/1.000000-Full Dose Images-*/` and
    `<ID>/<study>/1.000000-Low Dose Images-*/`.

    Half of the training patients feed the noisy pool with their low-dose images, the others the clean pool with their
    full-dose images. Validation and test are pairs. iscl-tmi2021 names no validation patients: two per region are
    taken from its training patients, as choosing weights on test patients would be a leak.

    The two splits contradict each other: four test patients of ldct-bench train iscl-tmi2021, seventeen the other way
    round. With `--trained-on`, a test that holds such patients is refused.

    Example, one region:

        python -m data_prep mayo LDCT-and-Projection-data DATA --protocol ldct-bench --region abdomen
    """
    from data_prep.mayo.make import MayoRequest, make_mayo
    from data_prep.mayo.show import show

    request = MayoRequest(
        protocol=protocol,
        regions=tuple(region or ()),
        seed=seed,
        validation_per_region=validation,
        trained_on=trained_on,
        allow_missing=allow_missing,
    )
    path, made = make_mayo(root, destination, request)
    tell_program(written=[str(path)])
    show(path, made)
