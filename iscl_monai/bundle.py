"""Where the bundle lies: the folder of configs, documents and weights."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.errors import ConfigRefusal

METADATA = Path("configs") / "metadata.json"
PLACES = (Path("."), Path("bundles/iscl"))


def bundle_here(option: str) -> Path:
    """The bundle's folder, as seen from the repository's root or from inside the bundle.

    Args:
        option: of the command that asks, which names another place.

    Raises:
        ConfigRefusal: from anywhere else.
    """
    for place in PLACES:
        if (place / METADATA).is_file():
            return place
    raise ConfigRefusal(
        f"{Path.cwd()} holds neither bundles/iscl nor configs/metadata.json",
        allowed="the repository's root or the bundle's folder",
        cure=f"change there, or give {option}",
    )
