"""What a report shows: cases, and the lines of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.quality.fidelity import FidelityMean, as_volume, same_protocol
from iscl_monai.quality.noise import NoReferencePanel

NO_REFERENCE = "no reference"
Better = Literal["higher", "lower", "near 0", "unchanged", ""]


@dataclass(frozen=True)
class MetricRow:
    """One line of a case's table.

    Args:
        name: what was measured.
        unit: its unit; empty for a pure number.
        noisy: the value for the noisy input; None where it makes no sense.
        denoised: the value for the denoised image.
        protocol: identity of the protocol the values were measured on.
        better: which way is better, if one is.
        digits: decimals to print.
    """

    name: str
    unit: str
    noisy: float | None
    denoised: float | None
    protocol: str
    better: Better = ""
    digits: int = 1


@dataclass(frozen=True)
class ReportCase:
    """One slice to show, and the numbers of the scan it comes from.

    Args:
        name: heading of the case.
        noisy_hu: the input in HU, (row, column); None only if it is not known.
        denoised_hu: the output in HU, same shape.
        reference_hu: the truth in HU, same shape, where there is one.
        rows: the numbers, see :func:`metric_rows`.
        note: one line under the heading, e.g. where the scan comes from.

    Raises:
        ImageRefusal: if there is neither input nor reference, the pictures are not 2-D, not finite, or differ in shape.
    """

    name: str
    noisy_hu: NDArray[Any] | None
    denoised_hu: NDArray[Any]
    reference_hu: NDArray[Any] | None = None
    rows: Sequence[MetricRow] = ()
    note: str = ""

    def __post_init__(self) -> None:
        given = (self.noisy_hu, self.denoised_hu, self.reference_hu)
        pictures = [picture for picture in given if picture is not None]
        shapes = [np.shape(picture) for picture in pictures]
        if len(shapes) < 2 or len(set(shapes)) != 1 or len(shapes[0]) != 2:
            raise ImageRefusal(
                f"pictures of shapes {shapes} in case {self.name}",
                allowed="slices (row, column) of one shape",
                cure="choose one slice of each volume, the same index",
            )
        for picture in pictures:
            as_volume(picture)


def fidelity_rows(denoised: FidelityMean, noisy: FidelityMean | None) -> tuple[MetricRow, ...]:
    """One line for each quantity of the protocol.

    Args:
        denoised: fidelity of the denoised image.
        noisy: of the noisy input on the same protocol; None only if it is not known.

    Raises:
        Refusal: if the protocols differ.
    """
    protocol = denoised.protocol if noisy is None else same_protocol(noisy, denoised)
    lines: dict[str, tuple[str, str, Better, int]] = {
        "psnr_db": ("PSNR", "dB", "higher", 2),
        "ssim": ("SSIM", "", "higher", 4),
        "rmse_hu": ("RMSE", "HU", "lower", 2),
        "mean_shift_hu": ("Mean shift from reference", "HU", "near 0", 2),
        "vif": ("VIF", "", "higher", 4),
    }
    rows = []
    for quantity in protocol.quantities:
        name, unit, better, digits = lines[quantity]
        before = None if noisy is None else getattr(noisy, quantity)
        rows.append(MetricRow(name, unit, before, getattr(denoised, quantity), protocol.identity, better, digits))
    return tuple(rows)


def metric_rows(
    panel: NoReferencePanel, *, noisy: FidelityMean | None = None, denoised: FidelityMean | None = None
) -> tuple[MetricRow, ...]:
    """The usual lines of a case.

    Args:
        panel: numbers that need no reference.
        noisy: fidelity of the noisy input, where there is a reference.
        denoised: fidelity of the denoised image, on the same protocol.

    Raises:
        Refusal: if only one of the two fidelities is given, or their protocols differ.
    """
    rows: list[MetricRow] = []
    if noisy is not None or denoised is not None:
        if noisy is None or denoised is None:
            raise Refusal(
                "fidelity of only one of noisy input and denoised image",
                allowed="both, or none",
                cure="measure the noisy input too: a score without its input's says nothing",
            )
        rows += fidelity_rows(denoised, noisy)
    residual = panel.residual
    return (
        *rows,
        MetricRow("Local noise, soft tissue", "HU", panel.noise_before_hu, panel.noise_after_hu, NO_REFERENCE, "lower"),
        MetricRow("Mean shift from input", "HU", None, panel.mean_shift_hu, NO_REFERENCE, "near 0", 2),
        MetricRow("Image in residual", "", None, residual.image, NO_REFERENCE, "near 0", 3),
        MetricRow("Edges in residual", "", None, residual.edges, NO_REFERENCE, "near 0", 3),
    )
