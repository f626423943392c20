"""What weights will say of the scans of cached pools: their noise, voxels, part of the body, and what headers name.

Of micrographs, which have none of these: what they look like. Of MR magnitude: its noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iscl_monai.data.degradation import images_of
from iscl_monai.data.patches import plain_tensor
from iscl_monai.quality.appearance import appearance_of
from iscl_monai.quality.composition import composition_of
from iscl_monai.quality.dark import dark_character
from iscl_monai.quality.familiarity import geometry_of, looked_at, noise_character, ranges_of

MOST_SLICES = 8

Pool = Sequence[Mapping[str, Any]]


def pool_record(*pools: Pool) -> dict[str, Any]:
    """The part of ``training.json`` that :class:`iscl_monai.inference.TrainingRecord` compares scans with.

    Args:
        pools: of volumes with the metadata of :func:`iscl_monai.dicom.monai_io.load_ct`.

    Returns:
        Ranges (:func:`iscl_monai.quality.familiarity.ranges_of`) of ``noise`` and ``composition``, of ``pixel_mm`` and
        ``thickness_mm``; ``kernels`` by vendor and ``body_parts``, as headers name them.
    """
    scans = [scan for pool in pools for scan in pool]
    looks = [_few_slices(scan) for scan in scans]
    geometries = [_geometry(scan) for scan in scans]
    return {
        "noise": ranges_of(vars(noise_character(slices)) for slices in looks),
        "composition": ranges_of(
            composition_of(slices, geometry["pixel_mm"])
            for slices, geometry in zip(looks, geometries, strict=True)
            if "pixel_mm" in geometry
        ),
        **ranges_of(geometries),
        "kernels": _kernels(map(_meta, scans)),
        "body_parts": sorted({str(_meta(scan).get("body_part", "")) for scan in scans} - {""}),
    }


def appearances(pool: Pool) -> dict[str, list[float]]:
    """What micrographs of a cached pool look like: the range of each quantity of :func:`appearance_of` over them."""
    return ranges_of(appearance_of(image) for image in images_of(pool))


def dark_noise(pool: Pool) -> dict[str, list[float]]:
    """How loud and how fine the noise of MR scans of a cached pool is: ranges of :func:`dark_character` over them."""
    return ranges_of(dark_character(images_of([scan])) for scan in pool)


def _kernels(metas: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names by vendor."""
    pairs = {(str(meta.get("vendor", "")), str(meta.get("kernel", ""))) for meta in metas}
    named = sorted((vendor, kernel) for vendor, kernel in pairs if kernel)
    return {vendor: [kernel for other, kernel in named if other == vendor] for vendor, _ in named}


def _few_slices(scan: Mapping[str, Any]) -> list[NDArray[np.float32]]:
    """Up to ``MOST_SLICES`` of a volume, the first and the last among them."""
    image = plain_tensor(torch.as_tensor(scan["image"]))[0]
    places = looked_at(image.shape[-1], MOST_SLICES)
    return [image[..., place].numpy().astype(np.float32) for place in places]


def _geometry(scan: Mapping[str, Any]) -> dict[str, float]:
    meta = _meta(scan)
    return geometry_of([meta.get("spacing")], [meta.get("slice_thickness_mm")])


def _meta(scan: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = getattr(scan["image"], "meta", {})
    return meta
