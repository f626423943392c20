"""``python -m data_prep phantom``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from iscl_monai.spoken import tell_program


class Kind(str, Enum):
    """Which phantom."""

    anthropomorphic = "anthropomorphic"
    physics = "physics"


def phantom(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make, or to complete.")],
    kind: Annotated[Kind, typer.Option(help="Made-up patients, or test objects to measure on.")] = Kind.anthropomorphic,
    seed: Annotated[int, typer.Option(help="Another seed gives other patients and other noise.")] = 0,
    realisations: Annotated[
        int | None, typer.Option(help="physics: slices per series, each with its own noise.  [default: 20]")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Rows and columns.  [default: 192, physics 512]")] = None,
    spacing: Annotated[float | None, typer.Option(help="Distance of pixels, mm.  [default: 1.8, physics 0.7]")] = None,
    slices: Annotated[int | None, typer.Option(help="anthropomorphic: slices per patient.  [default: 8]")] = None,
    doses: Annotated[
        list[str] | None,
        typer.Option(metavar="SHARE...", help="physics: shares of the full dose.  [default: 1 0.5 0.25 0.1]"),
    ] = None,
    more_doses: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="SHARE")] = None,
) -> None:
    """Make scans of nobody, as DICOM series, with the truth beside them.

    **anthropomorphic**: chests and abdomens of made-up patients at full and low dose, with lesions of known place and
    contrast and a datalist.json: unpaired noisy and clean patients, and pairs for validation and test.

    **physics**: water, inserts of -1000 to +1000 HU, discs of low contrast, and slices of made-up patients with lesions
    and calcifications, in many realisations of the noise; and a stack of neighbouring slices.

    The same arguments give the same files. Interrupted, it goes on where it stopped.

    Example, test objects at two doses:

        python -m data_prep phantom test_objects/ --kind physics --realisations 50 --doses 1 0.25
    """
    from iscl_monai.errors import ConfigRefusal

    if more_doses and not doses:
        raise ConfigRefusal(
            f"{more_doses} after DIR", allowed="one folder", cure="write --doses before shares of a dose"
        )
    given = {"size": size, "spacing_mm": spacing, "slices": slices, "realisations": realisations}
    shares = _shares([*(doses or []), *(more_doses or [])])
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    made = _make(directory, kind, {"seed": seed, **settings, **({"doses": shares} if shares else {})})
    tell_program(written=[str(made)])
    typer.echo(made)


def _shares(words: list[str]) -> list[float]:
    """Each word a share, or several with commas between, as ``qa --doses`` takes them."""
    from iscl_monai.errors import ConfigRefusal

    try:
        return [float(share) for word in words for share in word.split(",")]
    except ValueError:
        raise ConfigRefusal(
            f"--doses {' '.join(words)}",
            allowed="shares of the full dose, such as 1 0.25 or 1,0.25",
            cure="10 % is 0.1",
        ) from None


def _make(directory: Path, kind: Kind, settings: dict[str, Any]) -> Path:
    """Refuse what belongs to the other kind; make this one."""
    from iscl_monai.errors import ConfigRefusal
    from iscl_monai.phantom import make_dataset, make_physics

    foreign = ("realisations", "doses") if kind is Kind.anthropomorphic else ("slices",)
    wrong = [f"--{name}" for name in foreign if name in settings]
    if wrong:
        other = next(one for one in Kind if one is not kind)
        raise ConfigRefusal(
            f"{' '.join(wrong)} with --kind {kind.value}",
            allowed=f"{' '.join(wrong)} with --kind {other.value} only",
            cure="leave it out, or give the other kind",
        )
    return (make_dataset if kind is Kind.anthropomorphic else make_physics)(directory, **settings)
