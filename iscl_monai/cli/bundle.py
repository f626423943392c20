"""Which bundle a verb works with."""

from __future__ import annotations

from pathlib import Path


def found_bundle(bundle: Path | None) -> Path:
    """The bundle that was named, or that of the repository we stand in.

    Raises:
        ConfigRefusal: if none was named and there is none here.
    """
    if bundle is not None:
        return bundle
    from iscl_monai.configuration import bundle_root

    return Path(bundle_root())
