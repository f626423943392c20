"""Which bundle a verb works with."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.bundle import bundle_here


def found_bundle(bundle: Path | None) -> Path:
    """The bundle that was named, or that of the repository we stand in.

    Raises:
        ConfigRefusal: if none was named and there is none here.
    """
    return bundle_here("--bundle") if bundle is None else bundle
