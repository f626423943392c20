"""Which bundle a verb works with; and ``iscl-monai bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.bundle import bundle_to_read, copy_bundle
from iscl_monai.console import exit_codes, say
from iscl_monai.spoken import tell_program

BundleOption = Annotated[
    Path | None,
    typer.Option(
        envvar="ISCL_MONAI_BUNDLE",
        help="Folder of a bundle, or of a training.  [default: bundles/iscl, or the installed one]",
        show_default=False,
    ),
]
KeepPrivateOption = Annotated[
    list[str] | None, typer.Option(metavar="CREATOR", help="Keep the private elements of this creator; repeatable.")
]


def found_bundle(bundle: Path | None) -> Path:
    """The bundle that was named, that of the repository we stand in, or the installed one.

    Raises:
        ConfigRefusal: if none was named and there is none.
    """
    return bundle_to_read("--bundle") if bundle is None else bundle


def bundle(
    destination: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
) -> None:
    """Copy the MONAI bundle that came with this installation to a folder of your own, to train in.

    Example:
        iscl-monai bundle mine/

        cd mine && python -m monai.bundle run training --config_file configs/train.json --dataset_dir D
    """
    with exit_codes():
        made = copy_bundle(destination)
        tell_program(written=[str(made)])
        say(str(made))
