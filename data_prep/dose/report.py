"""What a dose simulation did to one series, as a page: pictures, noise maps, spectra, and what physics expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dose.simulation import Simulation, SliceNoise
from iscl_monai.hu import HUWindow
from iscl_monai.quality.spectrum import RadialSpectrum, without_anatomy
from iscl_monai.report.content import write_content
from iscl_monai.report.curves import Axis, Curve
from iscl_monai.report.explained import Explanation, explanations
from iscl_monai.report.numbers import NOT_GIVEN, fixed, significant
from iscl_monai.report.pages import write_page
from iscl_monai.report.pictures import Figure, View, png_address
from iscl_monai.report.plot import Plot, plot
from iscl_monai.report.section import Table
from iscl_monai.report.viewer import ViewedSlice, Viewer, hu_pane
from iscl_monai.scanner.calibration import spread
from iscl_monai.scanner.exposure import FEWEST_COUNTS, Exposure
from iscl_monai.scanner.selfcheck import LIMITS, MOST_STARVED, SelfCheck
from iscl_monai.scanner.strength import own_noise, places_of
from iscl_monai.scanner.texture import flat_patches, local_mean_and_sigma, soft_tissue, spectrum
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

TITLE = "Simulated low dose"
SHOWN = 3
_MOST_PATCHES = 32
_SEED = 3
_MOST_HIDDEN = 1.5
"""A scan's noise above so many times the virtual scanner's is anatomy, and says nothing of noise."""
_HEADS = (
    "Slice",
    "Noise, low dose over scan",
    "Noise, low dose over scan, expected",
    "Added noise, over expected",
    "Mean shift, HU",
    "Mean frequency of the scan's noise, 1/mm",
    "Mean frequency of the added noise, 1/mm",
    "Rays starved, %",
    "Verdict",
)
_VERDICT = len(_HEADS) - 1


@dataclass(frozen=True, kw_only=True)
class SliceFigures:
    """What was measured on one slice, and what physics lets expect.

    Args:
        index: of the slice.
        ratio: noise of the low dose over the scan's in soft tissue, median; of the scan's noise, measured where anatomy
            is least, and what was added; NaN where anatomy hides the scan's noise.
        expected: the same by the virtual scanner's variances.
        added: root mean square, over soft tissue, of the noise that was added over what the virtual scanner's variances
            let expect.
        shift_hu: mean of what was added, over soft tissue.
        mean_frequencies_per_mm: of the noise power of the scan and of what was added; NaN without flat patches.
        starved: share of rays that were starved of photons.
    """

    index: int
    ratio: float
    expected: float
    added: float
    shift_hu: float
    mean_frequencies_per_mm: tuple[float, float]
    starved: float


@dataclass(frozen=True, kw_only=True)
class ShownSlice:
    """One slice of the page.

    Args:
        number: of the slice, from 1.
        figures: the noise.
        spectra: of the noise; None where no soft tissue is flat enough.
    """

    number: int
    figures: Sequence[Figure]
    spectra: Plot | None


@dataclass(frozen=True, kw_only=True)
class DosePage:
    """What ``templates/dose.html`` shows, from top to bottom.

    Args:
        title: heading.
        fraction: of the dose.
        exposure: of the virtual scanner.
        kernel: its name.
        half_per_mm: where it falls to a half.
        noise_hu: of the scan.
        seed: of the noise.
        check: of the calibration: heading and figure.
        warnings: what to know about the noise that is added.
        table: what was measured.
        viewer: scan and simulation.
        slices: noise in pictures.
    """

    title: str
    fraction: float
    exposure: Exposure
    kernel: str
    half_per_mm: float
    noise_hu: float
    seed: int
    check: Table
    warnings: Sequence[str]
    table: Table
    viewer: Viewer
    slices: Sequence[ShownSlice]

    @property
    def explained(self) -> Sequence[Explanation]:
        """What is behind the verdicts on the page."""
        return explanations([self.table.topic])


def write_dose_report(simulation: Simulation, file: Path) -> tuple[SliceFigures, ...]:
    """Simulate a few slices again, measure them, and write the page.

    Args:
        simulation: of a series, at less than its dose.
        file: the HTML to write; opens without a network. The numbers go beside it, into a JSON of its name.

    Returns:
        What was measured, per slice shown.
    """
    scanner = simulation.scanner
    if scanner is None or simulation.check is None:
        raise ValueError("no noise was added")
    count = len(simulation.groups)
    tissue = spread([simulation.mean_hu(index) for index in range(count)])
    chosen = [tissue[round(part * (len(tissue) - 1) / (SHOWN - 1))] for part in range(SHOWN)]
    slices = [_MeasuredSlice(simulation.noise(index), simulation, scanner) for index in sorted(set(chosen))]
    figures = tuple(one.figures() for one in slices)
    page = DosePage(
        title=TITLE,
        fraction=simulation.fraction,
        exposure=scanner.exposure,
        kernel=scanner.kernel.name,
        half_per_mm=scanner.kernel.half_per_mm,
        noise_hu=simulation.noise_hu,
        seed=simulation.seed,
        check=_check_table(simulation.check, scanner),
        warnings=simulation.warnings,
        table=Table(
            heads=_HEADS,
            lines=[_line(one) for one in figures],
            words=(_VERDICT,),
            verdicts=_VERDICT,
            topic="dose",
        ),
        viewer=Viewer(name="scan and simulation", slices=[one.viewed() for one in slices]),
        slices=[one.shown() for one in slices],
    )
    write_content(file.with_suffix(".json"), _content(simulation, simulation.check, scanner, figures))
    write_page(file, "dose.html", page, package="data_prep")
    return figures


def _content(
    simulation: Simulation, check: SelfCheck, scanner: VirtualScanner, figures: Sequence[SliceFigures]
) -> dict[str, Any]:
    """The numbers of the page, under the names that it has for them."""

    def number(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    slices = []
    for one in figures:
        numbers = (one.ratio, one.expected, one.added, one.shift_hu, *one.mean_frequencies_per_mm, 100 * one.starved)
        named = dict(zip(_HEADS[1:_VERDICT], map(number, numbers), strict=True))
        slices.append({_HEADS[0]: one.index + 1, **named, _HEADS[_VERDICT]: verdict_of(one)})
    return {
        "title": TITLE,
        "fraction": simulation.fraction,
        "seed": simulation.seed,
        "noise_hu": number(simulation.noise_hu),
        "photons_per_ray": scanner.exposure.photons,
        "kernel": scanner.kernel.name,
        "kernel_half_per_mm": number(scanner.kernel.half_per_mm),
        "self_check": {name: number(found) for name, found, _ in _checked(check, scanner)},
        "warnings": list(simulation.warnings),
        "slices": slices,
    }


class _MeasuredSlice:
    """One slice, measured: the scan, what was simulated, and what noise physics expects."""

    def __init__(self, noise: SliceNoise, simulation: Simulation, scanner: VirtualScanner) -> None:
        self.noise = noise
        self.low_hu = noise.mean_hu + noise.added_hu
        current = simulation.tube_current[noise.index]
        integrals = scanner.smooth_integrals(noise.mean_hu)
        self.scan_sigma_hu = scanner.expected_sigma_hu(noise.mean_hu, tube_current=current, integrals=integrals)
        self.added_sigma_hu = scanner.expected_sigma_hu(
            noise.mean_hu, tube_current=current, added_at=simulation.fraction, integrals=integrals
        )
        self.spacing_mm = scanner.geometry.spacing_mm
        count = len(simulation.groups)
        beside = noise.index + 1 if noise.index + 1 < count else noise.index - 1
        neighbour_hu = simulation.mean_hu(beside) if count > 1 else None
        places = places_of([noise.mean_hu], [neighbour_hu], [current], [integrals])
        own = own_noise(places, scanner, [self.scan_sigma_hu], seed=_SEED)
        self.scan_over_expected = places.least_over_own([self.scan_sigma_hu], own, shared=scanner.neighbour_correlation)
        seen_hu, tissue_hu = without_anatomy(noise.mean_hu, neighbour_hu)
        flat = flat_patches(seen_hu, tissue_hu, self.scan_sigma_hu, _MOST_PATCHES)
        images = (seen_hu, noise.added_hu) if flat else ()
        self.spectra = [spectrum([image[place] for place in flat], self.spacing_mm) for image in images]

    def figures(self) -> SliceFigures:
        tissue = soft_tissue(local_mean_and_sigma(self.noise.mean_hu)[0])
        # Not the median of local standard deviations: these lack the noise's lowest frequencies, up to 6 %.
        squares = np.square((self.noise.added_hu / self.added_sigma_hu)[tissue], dtype=np.float64)
        added = float(np.sqrt(squares.mean()))
        relative = (self.added_sigma_hu / self.scan_sigma_hu)[tissue]
        hidden = not self.scan_over_expected <= _MOST_HIDDEN
        ratio = math.nan if hidden else float(np.median(np.hypot(1, added * relative / self.scan_over_expected)))
        frequencies = [one.mean_per_mm() for one in self.spectra] or [math.nan] * 2
        return SliceFigures(
            index=self.noise.index,
            ratio=ratio,
            expected=float(np.median(np.hypot(1, relative))),
            added=added,
            shift_hu=float(self.noise.added_hu[soft_tissue(self.noise.mean_hu)].mean()),
            mean_frequencies_per_mm=(frequencies[0], frequencies[1]),
            starved=self.noise.starved,
        )

    def viewed(self) -> ViewedSlice:
        """The scan beside what was simulated."""
        panes = [hu_pane("Scan", self.noise.mean_hu), hu_pane("Simulated", self.low_hu)]
        return ViewedSlice(name=f"slice {self.noise.index + 1}", panes=panes)

    def shown(self) -> ShownSlice:
        _, measured_hu = local_mean_and_sigma(self.noise.added_hu)
        top = float(np.percentile(self.added_sigma_hu[self.noise.mean_hu > -300], 99))
        sigma = View(f"0 to {top:.0f} HU", HUWindow(0, top))
        noise = View(f"±{2 * top:.0f} HU", HUWindow(-2 * top, 2 * top))
        pictures = [
            ("Noise added", noise, self.noise.added_hu),
            ("Its local standard deviation, 9x9", sigma, measured_hu),
            ("... as expected", sigma, self.added_sigma_hu),
        ]
        figures = [
            Figure(label=label, window=view.name, alt=label, address=png_address(image_hu, view))
            for label, view, image_hu in pictures
        ]
        spectra = _spectra_plot(self.spectra) if self.spectra else None
        return ShownSlice(number=self.noise.index + 1, figures=figures, spectra=spectra)


def _check_table(check: SelfCheck, scanner: VirtualScanner) -> Table:
    return Table(
        heads=("Self-check of the calibration", "Found", "Taken"),
        words=(2,),
        lines=[
            [name, significant(found, 2) if name.startswith("Rays") else fixed(found, 2), taken]
            for name, found, taken in _checked(check, scanner)
        ],
    )


def _checked(check: SelfCheck, scanner: VirtualScanner) -> list[tuple[str, float, str]]:
    """What was checked, what was found, and in words what is taken."""
    lowest, highest = check.plausible_per_mm
    starved = f"Rays of fewer than {FEWEST_COUNTS:g} counts at {check.fraction:g} of the dose (calibrated slices), %"
    return [
        ("Own noise over the scan's", check.own_over_scan, f"{LIMITS[0]:g} to {LIMITS[1]:g}"),
        (
            "Mean frequency of the noise, 1/mm",
            check.frequency_per_mm,
            f"{lowest:.2f} to {highest:.2f} for such a kernel",
        ),
        (starved, 100 * check.starved, f"warned of above {100 * MOST_STARVED:g}"),
        ("Correlation of the noise of neighbouring slices", scanner.neighbour_correlation, ""),
    ]


def _line(one: SliceFigures) -> list[str]:
    return [
        str(one.index + 1),
        NOT_GIVEN if math.isnan(one.ratio) else fixed(one.ratio, 2),
        fixed(one.expected, 2),
        fixed(one.added, 2),
        fixed(one.shift_hu, 2, signed=True),
        *(fixed(frequency, 3) for frequency in one.mean_frequencies_per_mm),
        significant(100 * one.starved, 2),
        verdict_of(one),
    ]


def verdict_of(one: SliceFigures) -> str:
    """Whether the noise of a slice is that of its dose, in words: by its ratio, else by what was added."""
    found, name = (one.added, "added noise") if math.isnan(one.ratio) else (one.ratio / one.expected, "noise")
    lowest, highest = LIMITS
    if lowest <= found <= highest:
        return f"as physics expects: {name} is {fixed(found, 2)} of it, {lowest:g} to {highest:g} is taken"
    much = "too little" if found < lowest else "too much"
    expected = f"{fixed(found, 2)} of what physics expects, not {lowest:g} to {highest:g}"
    return f"{much}, do not train on it: {name} is {expected}"


def _spectra_plot(spectra: Sequence[RadialSpectrum]) -> Plot:
    """Noise power of the scan and of what was added over frequency, each over its own peak."""
    curves = [
        Curve(name=name, x=one.frequency_per_mm, y=one.power_hu2_mm2 / one.power_hu2_mm2.max())
        for name, one in zip(("scan", "added noise"), spectra, strict=True)
    ]
    return plot(
        curves,
        x=Axis(label="spatial frequency, 1/mm", low=0),
        y=Axis(label="noise power over its peak", low=0),
        title="Noise power spectra",
    )
