"""A reader and a widget for napari (``napari.yaml``): CT scans as layers in HU, and a denoised layer beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iscl_monai.bundle import bundle_to_read
from iscl_monai.dicom.images import is_image_file, read_image
from iscl_monai.dicom.series import read_series

if TYPE_CHECKING:
    import napari.layers
    import napari.types

LayerData = tuple[npt.NDArray[np.float32], dict[str, Any], str]

SOFT_TISSUE_HU = (-160.0, 240.0)
"""What a layer shows at first: level 40, width 400."""
DISCLAIMER = "AI-processed, derived, not for primary diagnosis"


def napari_get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """What reads a path, or None where another reader must.

    Args:
        path: a DICOM folder or file, NIfTI, MetaImage or NRRD; of several paths none is ours.
    """
    if isinstance(path, list):
        return None
    found = Path(path)
    return read_layers if found.is_dir() or is_image_file(found) or found.suffix.lower() == ".dcm" else None


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Read a CT scan as one image layer.

    Args:
        path: see :func:`napari_get_reader`.

    Returns:
        float32 HU (slice, row, column), with the size of a voxel in mm as its scale.

    Raises:
        Refusal: what is no CT scan in Hounsfield units, or would have to be guessed.
    """
    source = Path(str(path))
    if is_image_file(source):
        volume = read_image(source)
        steps_mm = np.linalg.norm(volume.affine_ras[:3, :3], axis=0)
        # NIfTI counts (column, row, slice), the others (row, column, slice).
        order = (2, 1, 0) if source.name.lower().endswith((".nii", ".nii.gz")) else (2, 0, 1)
        hu, scale = volume.hu.transpose(order), [float(steps_mm[axis]) for axis in order]
    else:
        series = read_series(source, geometry="slices")
        steps_mm = np.linalg.norm(series.affine_lps[:3, :3], axis=0)
        hu, scale = series.hu, [float(steps_mm[axis]) for axis in (2, 0, 1)]
    shown = {"name": source.name, "scale": scale, "contrast_limits": SOFT_TISSUE_HU, "colormap": "gray"}
    return [(np.ascontiguousarray(hu), shown, "image")]


def denoise_layer(
    image: napari.layers.Image, strength: float = 1.0, bundle: str = ""
) -> list[napari.types.LayerDataTuple]:
    """Denoise an image layer; the answer is a layer of its own.

    Args:
        image: HU (slice, row, column), or one slice.
        strength: share of the change that is applied, 0 to 1.
        bundle: folder of weights; empty: those that came with the package.

    Raises:
        Refusal: no Hounsfield units, or no weights.
    """
    from iscl_monai.inference import (  # torch takes seconds to import, and napari starts at once
        Denoiser,
        denoise_volume,
    )

    hu = np.asarray(image.data)
    folder = Path(bundle) if bundle else bundle_to_read("the field bundle")
    denoiser = Denoiser.from_bundle(folder, strength=strength)
    denoised = denoise_volume(hu if hu.ndim == 3 else hu[None], denoiser)
    shown = {
        "name": f"{image.name} denoised ({DISCLAIMER})",
        "scale": [float(step) for step in image.scale],
        "contrast_limits": tuple(image.contrast_limits),
        "colormap": "gray",
    }
    return [(denoised if hu.ndim == 3 else denoised[0], shown, "image")]
