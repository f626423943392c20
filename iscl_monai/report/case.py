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
from iscl_monai.quality.regions import RegionResult
from iscl_monai.report.verdict import NONE, Verdict, of_noise, of_residual, of_score, of_shift

NO_REFERENCE = "no reference"
REGIONS_PROTOCOL = "regions"
UNIFORM = ("fat", "soft tissue")
"""Tissues whose local standard deviation is noise; lung and bone have structure, and air is cut off."""
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
        verdict: what it means.
    """

    name: str
    unit: str
    noisy: float | None
    denoised: float | None
    protocol: str
    better: Better = ""
    digits: int = 1
    verdict: Verdict = NONE


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
        before, after = None if noisy is None else getattr(noisy, quantity), getattr(denoised, quantity)
        if better == "near 0":
            verdict = of_shift(after)
        else:
            verdict = of_score(before, after, higher=better == "higher", digits=digits)
        rows.append(MetricRow(name, unit, before, after, protocol.identity, better, digits, verdict))
    return tuple(rows)


def region_rows(results: Sequence[RegionResult], *, left_hu: float | None = None) -> tuple[MetricRow, ...]:
    """Two lines for each region: local noise, which should fall, and mean, which should stay.

    Args:
        results: of the regions.
        left_hu: noise that the denoiser was to leave; None: not known, or it was not told any.
    """
    rows: list[MetricRow] = []
    for one in results:
        noise, mean = (one.sigma_before_hu, one.sigma_after_hu), (one.mean_before_hu, one.mean_after_hu)
        removed = of_noise(*noise, uniform=one.name in UNIFORM, left_hu=left_hu)
        rows += [
            MetricRow(f"Local noise, {one.name}", "HU", *noise, REGIONS_PROTOCOL, "lower", verdict=removed),
            MetricRow(
                f"Mean, {one.name}", "HU", *mean, REGIONS_PROTOCOL, "unchanged", verdict=of_shift(mean[1] - mean[0])
            ),
        ]
    return tuple(rows)


def body_rows(panel: NoReferencePanel) -> tuple[MetricRow, ...]:
    """What can be said of the body without a reference: its mean, and what was removed."""
    shift, residual = panel.mean_shift_hu, panel.residual
    lines = (("Image in residual", residual.image), ("Edges in residual", residual.edges))
    return (
        MetricRow("Mean shift from input", "HU", None, shift, NO_REFERENCE, "near 0", 2, of_shift(shift)),
        *(MetricRow(name, "", None, one, NO_REFERENCE, "near 0", 3, of_residual(one)) for name, one in lines),
    )


def metric_rows(
    panel: NoReferencePanel,
    regions: Sequence[RegionResult] = (),
    *,
    noisy: FidelityMean | None = None,
    denoised: FidelityMean | None = None,
    left_hu: float | None = None,
) -> tuple[MetricRow, ...]:
    """The usual lines of a case.

    Args:
        panel: numbers that need no reference.
        regions: local noise and mean of tissues; those that were not measured are left out.
        noisy: fidelity of the noisy input, where there is a reference.
        denoised: fidelity of the denoised image, on the same protocol.
        left_hu: see :func:`region_rows`.

    Raises:
        Refusal: if only one of the two fidelities is given, or their protocols differ.
    """
    rows: tuple[MetricRow, ...] = ()
    if noisy is not None or denoised is not None:
        if noisy is None or denoised is None:
            raise Refusal(
                "fidelity of only one of noisy input and denoised image",
                allowed="both, or none",
                cure="measure the noisy input too: a score without its input's says nothing",
            )
        rows = fidelity_rows(denoised, noisy)
    soft = [one for one in regions if one.name == "soft tissue"]
    return (*rows, *region_rows(soft, left_hu=left_hu), *body_rows(panel))
