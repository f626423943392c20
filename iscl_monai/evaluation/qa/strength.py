"""The denoiser and filters beside it as curves over their strength, on the anatomy of the phantom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iscl_monai.evaluation.equal_noise.curves import MethodCurves, method_curves
from iscl_monai.evaluation.equal_noise.measure import measured
from iscl_monai.evaluation.equal_noise.pictures import plots_of
from iscl_monai.evaluation.equal_noise.slices import NoisyScan, TestSlice, slices_of
from iscl_monai.evaluation.equal_noise.tables import HOW_TO_READ, tables_at
from iscl_monai.evaluation.qa.by_dose import module_name, percent
from iscl_monai.evaluation.qa.denoised import Progress
from iscl_monai.evaluation.qa.phantom import ANATOMY, Phantom
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.report.section import Section, table_section

GROUP = "phantom anatomy"


def slices_at(phantom: Phantom, dose: float) -> list[TestSlice]:
    """Scans of both anatomies at a dose, without the phantom's own lesions: others are put in where there is room."""
    scans = []
    for name in ANATOMY:
        module = phantom.modules[name]
        noisy_hu = module.scans_hu(dose) - module.signal_hu
        scans.append(
            NoisyScan(
                patient=module_name(name),
                group=GROUP,
                noisy_hu=noisy_hu,
                scene_hu=np.broadcast_to(module.plain_hu, noisy_hu.shape),
                spacing_mm=phantom.pixel_spacing_mm,
            )
        )
    return slices_of(scans)


def curves_of(
    denoisers: Sequence[SliceDenoiser], slices: Sequence[TestSlice], progress: Progress | None = None
) -> tuple[MethodCurves, ...]:
    """One after the other.

    Args:
        denoisers: the one that is checked first.
        slices: of :func:`slices_at`.
        progress: called with 1 after each slice of each denoiser.
    """
    return tuple(method_curves(one.identity.name, measured(one, slices, progress=progress), GROUP) for one in denoisers)


def strength_sections(curves: Sequence[MethodCurves], dose: float, *, spacing_mm: float) -> list[Section]:
    """Plots over the noise reduction, and tables at equal noise; none where there was no room for lesions."""
    if not curves or not curves[0].slices:
        return []
    title = f"At equal noise, {percent(dose)} of the dose"
    plots = Section(title=title, intro=f"{HOW_TO_READ} A pixel is {spacing_mm:g} mm here.", plots=plots_of(curves))
    return [plots, *(table_section(table) for table in tables_at(curves, GROUP))]
