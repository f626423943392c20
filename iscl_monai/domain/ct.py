"""Computed tomography in Hounsfield units: air, bodies, and noise that has no mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from iscl_monai.dicom.monai_io import LoadCTd
from iscl_monai.domain.domain import Domain
from iscl_monai.domain.extent import SliceRange
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.noise import no_reference_panel
from iscl_monai.quality.protocol import HU_BODY

LEAST_GAP_MM = 15.0


def _estimate_shape(item: Mapping[str, Any]) -> tuple[int, int, int]:
    from iscl_monai.dicom.monai_io import estimate_shape

    return estimate_shape(item["image"], series_uid=item.get("series_uid"), z_range_mm=item.get("z_range_mm"))


def _panel(before: Tensor, after: Tensor) -> dict[str, float]:
    panel = asdict(no_reference_panel(before, after))
    return {
        "input_noise_hu": panel["noise_before_hu"],
        "noise_hu": panel["noise_after_hu"],
        "shift_from_input_hu": panel["mean_shift_hu"],
        "residual_correlation": panel["residual"]["image"],
    }


CT = Domain(
    name="ct",
    title="CT in Hounsfield units",
    unit="HU",
    loader=LoadCTd,
    estimate_shape=_estimate_shape,
    foreground=body_mask,
    panel=_panel,
    extent=SliceRange(LEAST_GAP_MM),
    quarter_turns=True,
    protocol=HU_BODY,
    greatest_drift=150.0,
    residual_range=200.0,
    phantom=True,
    required={},
)
