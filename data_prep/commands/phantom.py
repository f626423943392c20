"""``python -m data_prep phantom``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    seed: Annotated[int, typer.Option(help="Another seed gives other patients.")] = 0,
) -> None:
    """Make a small synthetic dataset: unpaired noisy and clean slices of different made-up patients.

    Pairs for validation and test come along, and a datalist.json. The same seed gives the same files.
    """
    from data_prep.phantom import make_dataset

    typer.echo(make_dataset(directory, seed=seed))
