"""What can be refused of a source and a destination by their paths alone."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.errors import OutputRefusal, Refusal


def check_source(source: Path) -> None:
    """Refuse a source that is not there.

    Raises:
        Refusal: if nothing has that name.
    """
    if not source.exists():
        raise Refusal(f"{source} does not exist", allowed="a DICOM folder or file, or a NIfTI file", cure="check it")


def check_places(source: Path, destination: Path) -> None:
    """Refuse to write into what is read.

    Raises:
        OutputRefusal: when the destination is the source, or lies inside of it.
    """
    if source.exists() and destination.resolve().is_relative_to(source.resolve()):
        raise OutputRefusal(
            f"{destination} lies inside {source}",
            allowed="a place outside of the source, which is never touched",
            cure="give another name for the result",
        )
