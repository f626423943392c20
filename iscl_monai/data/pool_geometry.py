"""How large the voxels of cached pools are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iscl_monai.quality.familiarity import geometry_of, ranges_of


def pool_geometry_ranges(*pools: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Pixel size and slice thickness of the scans of cached pools (:func:`iscl_monai.quality.familiarity.ranges_of`).

    Args:
        pools: of volumes with the metadata of :func:`iscl_monai.dicom.monai_io.load_ct`.
    """
    return ranges_of(_geometry(scan["image"]) for pool in pools for scan in pool)


def _geometry(image: Any) -> dict[str, float]:
    meta: Mapping[str, Any] = getattr(image, "meta", {})
    return geometry_of([meta.get("spacing")], [meta.get("slice_thickness_mm")])
