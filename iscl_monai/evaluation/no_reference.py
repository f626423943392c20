"""A denoised scan without a reference, in numbers and pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.scans import Scan
from iscl_monai.evaluation.scores import finite
from iscl_monai.quality.before_after import BeforeAfter, Texture, before_after
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.regions import RegionResult
from iscl_monai.quality.spectrum import RadialSpectrum
from iscl_monai.report.case import NO_REFERENCE, MetricRow, body_rows, region_rows
from iscl_monai.report.curves import Axis, Curve
from iscl_monai.report.plot import Plot, plot
from iscl_monai.report.report_page import ShownCase
from iscl_monai.report.section import Section
from iscl_monai.report.series import SeriesReport
from iscl_monai.report.verdict import of_frequency

CANNOT_TELL = (
    "There is no reference here, so nothing in this panel can tell whether a lesion was kept or made up: only how much "
    "noise went, how its texture changed, whether HU moved, and whether anatomy shows in what was removed"
)

FREQUENCY = Axis(label="spatial frequency, 1/mm", low=0)


def measured(noisy: Scan, denoised: Scan) -> BeforeAfter:
    """The panel of a scan.

    Raises:
        ImageRefusal: if the noisy scan is all air; or see :func:`iscl_monai.quality.before_after.before_after`.
    """
    if not body_mask(noisy.hu).any():
        raise ImageRefusal(
            f"{noisy.source} shows no body (largest value {noisy.hu.max():g} HU)",
            allowed="a scan with tissue in at least one slice, in Hounsfield units",
            cure="give a scan of a patient; one of air or of a phantom too small to be seen cannot be measured so",
        )
    return before_after(noisy.hu, denoised.hu, pixel_spacing_mm=noisy.pixel_spacing_mm, padded=noisy.padded)


def panel_rows(panel: BeforeAfter, *, left_hu: float | None = None) -> tuple[MetricRow, ...]:
    """Every number of a panel, one line each.

    Args:
        panel: of a scan.
        left_hu: noise that the denoiser was to leave; None: not known, or it was not told any.
    """
    shares = [(one.name, 100 * noise_removed(one)) for one in panel.regions]
    rows = [
        *region_rows(panel.regions, left_hu=left_hu),
        *(MetricRow(f"Local noise removed, {name}", "%", None, share, NO_REFERENCE, "", 0) for name, share in shares),
        *body_rows(panel.panel),
    ]
    if panel.texture is not None:
        before, after = panel.texture.before, panel.texture.after
        mean, peak = (before.mean_per_mm(), after.mean_per_mm()), (before.peak_per_mm(), after.peak_per_mm())
        rows += [
            MetricRow(f"{which} frequency of noise", "1/mm", *each, NO_REFERENCE, "unchanged", 3, of_frequency(*each))
            for which, each in (("Mean", mean), ("Peak", peak))
        ]
    if panel.slices is not None:
        alike = panel.slices.residual_correlation
        rows += [
            MetricRow("Flicker between slices, share of the input's", "", None, panel.slices.flicker, NO_REFERENCE),
            MetricRow("Residual alike in neighbouring slices", "", None, alike, NO_REFERENCE, "near 0", 3),
        ]
    return tuple(replace(row, digits=2) if row.name.startswith("Flicker") else row for row in rows)


def noise_removed(region: RegionResult) -> float:
    """Part of the local noise of a region that is gone: 0 nothing, 1 everything; NaN if it was not measured."""
    return 1 - region.sigma_after_hu / region.sigma_before_hu if region.sigma_before_hu > 0 else math.nan


def panel_cases(
    name: str, noisy: Scan, denoised: Scan, panel: BeforeAfter, *, left_hu: float | None = None
) -> list[ShownCase]:
    """Slices in pictures, with all numbers; see :func:`panel_rows`."""
    report = SeriesReport(name=name, count=len(noisy.hu))
    for index, (before, after) in enumerate(zip(noisy.hu, denoised.hu, strict=True)):
        report.add(index, before, after, None if noisy.padded is None else noisy.padded[index])
    case = report.case(panel_rows(panel, left_hu=left_hu))
    return [] if case is None else [case]


def texture_section(texture: Texture | None) -> Section:
    """The noise power spectra as curves, or why there are none."""
    title = "Texture of noise"
    if texture is None:
        return Section(title=title, intro="Not measurable: too little soft tissue.")
    return Section(
        title=title,
        intro=f"Soft tissue, {texture.patches} patches in differences of neighbouring slices. A curve that moves to "
        "the left is noise that looks coarser; a peak of the removed at the far left is anatomy that was removed.",
        plots=[_power_plot(texture), _relative_plot(texture)],
    )


def _power_plot(texture: Texture) -> Plot:
    curves = [
        _curve("before", texture.before),
        _curve("after", texture.after),
        _curve("removed", texture.removed, dashed=True),
    ]
    return plot(curves, title="Noise power spectrum", x=FREQUENCY, y=Axis(label="HU² mm²", low=0))


def _relative_plot(texture: Texture) -> Plot:
    curves = [_curve("before", texture.before, relative=True), _curve("after", texture.after, relative=True)]
    return plot(curves, title="The same, each over its highest value", x=FREQUENCY, y=Axis(label="share", low=0))


def _curve(name: str, spectrum: RadialSpectrum, *, relative: bool = False, dashed: bool = False) -> Curve:
    highest = float(spectrum.power_hu2_mm2.max()) if relative else 1.0
    scale = 1 / highest if highest > 0 else math.nan
    return Curve(name=name, x=spectrum.frequency_per_mm, y=spectrum.power_hu2_mm2 * scale, dashed=dashed)


def panel_content(panel: BeforeAfter) -> dict[str, Any]:
    """All numbers, as JSON can hold them."""
    content: dict[str, Any] = {
        "protocol": NO_REFERENCE,
        "notices": [CANNOT_TELL],
        "mean_shift_hu": finite(panel.panel.mean_shift_hu),
        "residual": _finite(asdict(panel.panel.residual)),
        "regions": [_finite({**asdict(region), "noise_removed": noise_removed(region)}) for region in panel.regions],
        "slices": None if panel.slices is None else _finite(asdict(panel.slices)),
        "texture": None,
    }
    if panel.texture is not None:
        spectra = {name: getattr(panel.texture, name) for name in ("before", "after", "removed")}
        content["texture"] = {
            "patches": panel.texture.patches,
            "mean_shift": finite(panel.texture.mean_shift),
            "peak_shift": finite(panel.texture.peak_shift),
            **{name: _spectrum(spectrum) for name, spectrum in spectra.items()},
        }
    return content


def _spectrum(spectrum: RadialSpectrum) -> dict[str, Any]:
    some = bool((spectrum.power_hu2_mm2 > 0).any())
    return {
        "mean_per_mm": finite(spectrum.mean_per_mm()) if some else None,
        "peak_per_mm": finite(spectrum.peak_per_mm()) if some else None,
        "frequency_per_mm": [round(value, 6) for value in spectrum.frequency_per_mm.tolist()],
        "power_hu2_mm2": spectrum.power_hu2_mm2.tolist(),
    }


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return _finite(value)
        return finite(value) if isinstance(value, float) else value

    return {name: one(value) for name, value in numbers.items()}
