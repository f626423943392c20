"""What is installed beyond the least that is needed: the extras of :data:`EXTRAS`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from iscl_monai.errors import ConfigRefusal

PACKAGE = "iscl-monai"
EXTRAS = {
    "batch": "archives on many cores or machines",
    "data": "a fast projector, and tables of archives",
    "evaluate": "classical filters, and visual information fidelity",
    "fast": "another runtime for networks on CPUs, and networks exported to ONNX",
    "micrograph": "TIFF and MRC images of microscopes",
    "serve": "the node beside a PACS",
}
"""By name, what each is for; those for developers are left out."""


def requirements(extra: str = "") -> tuple[Requirement, ...]:
    """What this package asks for.

    Args:
        extra: name of one; empty: what is always needed.

    Returns:
        Those that count on this Python and system, in the order of ``pyproject.toml``.
    """
    return tuple(one for one in map(Requirement, requires(PACKAGE) or ()) if _belongs(one, extra))


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return not extra
    return marker.evaluate({"extra": extra}) and not (extra and marker.evaluate({"extra": ""}))


def missing(extra: str = "") -> tuple[str, ...]:
    """What of it is not installed, or too old, in words: ``pandas``, ``scipy 1.10 (1.13 or newer)``."""
    return tuple(_lacking(requirements(extra)))


def _lacking(asked: tuple[Requirement, ...]) -> Iterator[str]:
    for requirement in asked:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield requirement.name
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} ({requirement.specifier})"


def check_extra(extra: str, purpose: str) -> None:
    """Refuse before any work is done what an extra is needed for, if it is not all there.

    Args:
        extra: of :data:`EXTRAS`.
        purpose: what needs it, for the message.

    Raises:
        ConfigRefusal: naming what is missing, and the line that installs it.
    """
    lacking = missing(extra)
    if lacking:
        came = f"{purpose} without {', '.join(lacking)}"
        raise ConfigRefusal(came, allowed=f"the extra {extra!r} installed", cure=install_line(extra))


def install_line(extra: str) -> str:
    """What to type."""
    return f'pip install "{PACKAGE}[{extra}]"'
