"""What a dose simulation did to one series, as a page: pictures, noise maps, spectra, and what physics expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.dose.simulation import Simulation, SliceNoise
from iscl_monai.durable import whole_file
from iscl_monai.hu import HUWindow
from iscl_monai.quality.spectrum import RadialSpectrum, without_anatomy
from iscl_monai.report.page import LUNG, SOFT_TISSUE, View, page_html, png_address
from iscl_monai.scanner.calibration import soft_tissue, spread
from iscl_monai.scanner.texture import flat_patches, local_mean_and_sigma, mode, spectrum
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

SHOWN = 3
_MOST_PATCHES = 32
_COLOURS = ("#2563eb", "#dc2626")


@dataclass(frozen=True, kw_only=True)
class SliceFigures:
    """What was measured on one slice, and what physics lets expect.

    Args:
        index: of the slice.
        ratio: noise of the low dose over the scan's, the mode of the local standard deviation in soft tissue.
        expected: the same by the virtual scanner's variances.
        shift_hu: mean of what was added, over soft tissue.
        mean_frequencies_per_mm: of the noise power of the scan and of what was added; NaN without flat patches.
        starved: share of rays that were starved of photons.
    """

    index: int
    ratio: float
    expected: float
    shift_hu: float
    mean_frequencies_per_mm: tuple[float, float]
    starved: float


def write_dose_report(simulation: Simulation, file: Path) -> tuple[SliceFigures, ...]:
    """Simulate a few slices again, measure them, and write the page.

    Args:
        simulation: of a series, at less than its dose.
        file: the HTML to write; opens without a network.

    Returns:
        What was measured, per slice shown.
    """
    scanner = simulation.scanner
    if scanner is None:
        raise ValueError("no noise was added")
    count = len(simulation.groups)
    tissue = spread([simulation.mean_hu(index) for index in range(count)])
    chosen = [tissue[round(part * (len(tissue) - 1) / (SHOWN - 1))] for part in range(SHOWN)]
    parts, figures = [], []
    for index in sorted(set(chosen)):
        noise = simulation.noise(index)
        measured = _Slice(noise, simulation, scanner)
        figures.append(measured.figures())
        parts.append(measured.html())
    body = _head(simulation, scanner) + _table(figures) + "".join(parts)
    with whole_file(file) as opened:
        opened.write(page_html("Simulated low dose", body).encode())
    return tuple(figures)


class _Slice:
    """One slice of the report."""

    def __init__(self, noise: SliceNoise, simulation: Simulation, scanner: VirtualScanner) -> None:
        self.noise = noise
        self.low_hu = noise.mean_hu + noise.added_hu
        current = simulation.tube_current[noise.index]
        self.own_hu = scanner.expected_sigma_hu(noise.mean_hu, tube_current=current)
        self.expected_hu = scanner.expected_sigma_hu(noise.mean_hu, tube_current=current, added_at=simulation.fraction)
        self.spacing_mm = scanner.geometry.spacing_mm
        count = len(simulation.groups)
        beside = noise.index + 1 if noise.index + 1 < count else noise.index - 1
        seen_hu, tissue_hu = without_anatomy(noise.mean_hu, simulation.mean_hu(beside) if count > 1 else None)
        places = flat_patches(seen_hu, tissue_hu, self.own_hu, _MOST_PATCHES)
        images = (seen_hu, noise.added_hu) if places else ()
        self.spectra = [spectrum([image[place] for place in places], self.spacing_mm) for image in images]

    def figures(self) -> SliceFigures:
        mean_hu, before_hu = local_mean_and_sigma(self.noise.mean_hu)
        _, after_hu = local_mean_and_sigma(self.low_hu)
        tissue = soft_tissue(mean_hu)
        relative = [mode((sigma / self.own_hu)[tissue]) for sigma in (before_hu, after_hu)]
        both = np.hypot(self.own_hu, self.expected_hu)[tissue] / self.own_hu[tissue]
        frequencies = [one.mean_per_mm() for one in self.spectra]
        scan, added = frequencies or [math.nan] * 2
        return SliceFigures(
            index=self.noise.index,
            ratio=relative[1] / relative[0],
            expected=float(np.median(both)),
            shift_hu=float(self.noise.added_hu[soft_tissue(self.noise.mean_hu)].mean()),
            mean_frequencies_per_mm=(scan, added),
            starved=self.noise.starved,
        )

    def html(self) -> str:
        _, measured_hu = local_mean_and_sigma(self.noise.added_hu)
        top = float(np.percentile(self.expected_hu[self.noise.mean_hu > -300], 99))
        level = View(f"0 to {top:.0f} HU", HUWindow(0, top))
        swing = View(f"±{2 * top:.0f} HU", HUWindow(-2 * top, 2 * top))
        shown = [
            ("Scan", SOFT_TISSUE, self.noise.mean_hu),
            ("Simulated", SOFT_TISSUE, self.low_hu),
            ("Simulated", LUNG, self.low_hu),
            ("Noise added", swing, self.noise.added_hu),
            ("Its local standard deviation, 9x9", level, measured_hu),
            ("... as expected", level, self.expected_hu),
        ]
        figures = "".join(
            f'<figure><img src="{png_address(image, view)}" alt="{escape(label)}">'
            f"<figcaption><b>{escape(label)}</b> {escape(view.name)}</figcaption></figure>\n"
            for label, view, image in shown
        )
        plot = _plot(self.spectra) if self.spectra else "<p>No flat soft tissue for a spectrum.</p>"
        return (
            f"<section><h2>Slice {self.noise.index + 1}</h2>"
            f'<div class="pictures columns3">{figures}</div>{plot}</section>\n'
        )


def _head(simulation: Simulation, scanner: VirtualScanner) -> str:
    exposure = scanner.exposure
    return (
        "<h1>Simulated low dose</h1>\n<p class='warning'>Simulated, derived, not for diagnosis.</p>\n"
        f"<p>Noise inserted as for {simulation.fraction:g} of the dose. The virtual scanner was fitted to the scan: "
        f"{exposure.photons:.3g} photons per ray, kernel {escape(scanner.kernel.name)} (half at "
        f"{scanner.kernel.half_per_mm:.2f}/mm). Assumed: electronic noise of {exposure.electronic_noise:g} counts, "
        f"bowtie {exposure.bowtie:g}, modulation of the tube current over the views {exposure.modulation:g}. "
        f"Noise of the scan {simulation.noise_hu:.1f} HU (10th percentile of the local 9x9 standard deviation in soft "
        f"tissue), seed {simulation.seed}.</p>\n"
    )


def _table(figures: Sequence[SliceFigures]) -> str:
    heads = (
        "Slice",
        "Noise, low dose over scan",
        "... expected",
        "Mean shift, HU",
        "Mean frequency of the scan's noise, 1/mm",
        "... of the added noise",
        "Rays starved, %",
    )
    lines = "".join(
        f"<tr><th>{one.index + 1}</th><td>{one.ratio:.2f}</td><td>{one.expected:.2f}</td><td>{one.shift_hu:+.2f}</td>"
        + "".join(f"<td>{frequency:.3f}</td>" for frequency in one.mean_frequencies_per_mm)
        + f"<td>{100 * one.starved:.2g}</td></tr>"
        for one in figures
    )
    told = (
        "<p>Noise: the mode of the local 9x9 standard deviation over soft tissue, relative to what the anatomy lets "
        "expect. One slice may differ from another where the real tube current did. Spectra: flattest patches of 32x32 "
        "pixels, the scan's in the difference of neighbouring slices; what differs between these adds at low "
        "frequencies.</p>\n"
    )
    return (
        '<div class="wide"><table><thead><tr>'
        + "".join(f"<th>{escape(head)}</th>" for head in heads)
        + f"</tr></thead><tbody>{lines}</tbody></table></div>\n{told}"
    )


def _plot(spectra: Sequence[RadialSpectrum]) -> str:
    """Noise power of the scan and of what was added over frequency, each over its own peak, as SVG."""
    width, height, left, bottom = 640, 260, 46, 36
    most = float(spectra[0].frequency_per_mm[-1])
    lines = []
    for one, colour in zip(spectra, _COLOURS, strict=True):
        x = left + one.frequency_per_mm / most * (width - left - 10)
        y = 10 + (1 - one.power_hu2_mm2 / one.power_hu2_mm2.max()) * (height - bottom - 10)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    ticks = "".join(
        f'<text x="{left + part * (width - left - 10):.0f}" y="{height - 16}" text-anchor="middle">'
        f"{part * most:.2f}</text>"
        for part in (0, 0.25, 0.5, 0.75, 1)
    )
    names = "".join(
        f'<text x="{width - 150}" y="{24 + 16 * place}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(zip(("scan", "added noise"), _COLOURS, strict=True))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" font-size="12" fill="currentColor" role="img" '
        f'aria-label="noise power spectra"><line x1="{left}" y1="{height - bottom}" x2="{width - 10}" '
        f'y2="{height - bottom}" stroke="currentColor"/>{"".join(lines)}{ticks}{names}'
        f'<text x="{width / 2}" y="{height - 2}" text-anchor="middle">noise power over its peak, by cycles per mm'
        "</text></svg>"
    )
