"""What the bundle's configs call: their settings checked, places found, processes joined."""

from __future__ import annotations

from iscl_monai.configuration.check import check
from iscl_monai.configuration.places import (
    bundle_root,
    dataset,
    image_item,
    images,
    released_weights_file,
)
from iscl_monai.configuration.processes import join, local_device, spread
from iscl_monai.configuration.settings import SETTINGS, STRUCTURE

__all__ = [
    "SETTINGS",
    "STRUCTURE",
    "bundle_root",
    "check",
    "dataset",
    "image_item",
    "images",
    "join",
    "local_device",
    "released_weights_file",
    "spread",
]
