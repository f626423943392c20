"""The page of a quality check: verdicts first, then curves and pictures, how it was measured, and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.border_plots import border_plots
from iscl_monai.evaluation.qa.by_dose import module_name, percent
from iscl_monai.evaluation.qa.explained import MEASURED, NOT_MEASURED
from iscl_monai.evaluation.qa.making import FIXED_SEED
from iscl_monai.evaluation.qa.noise_plots import noise_plots
from iscl_monai.evaluation.qa.phantom import ANATOMY, INSERTS, MODULES
from iscl_monai.evaluation.qa.result import Picture, QaResult
from iscl_monai.evaluation.qa.rod_plots import rod_plots
from iscl_monai.evaluation.qa.signal_plots import lesion_plots, task_plots
from iscl_monai.evaluation.qa.strength import strength_sections
from iscl_monai.evaluation.qa.tables import calcifications_section, rods_section, slices_section, tissues_section
from iscl_monai.evaluation.qa.verdict_table import VerdictTable, verdict_table
from iscl_monai.hu import HUWindow
from iscl_monai.report.budget import within
from iscl_monai.report.pages import write_page
from iscl_monai.report.pictures import Figure, View, png_address
from iscl_monai.report.section import Section
from iscl_monai.report.viewer import BONE, NARROW, SOFT, ViewedSlice, Viewer, difference_pane, hu_pane

TITLE = "Image quality on phantoms"
PLANE = View("black 0, white its peak; frequency 0 in the middle", HUWindow(0, 1))
WINDOWS = {name: SOFT if name in ANATOMY else BONE if name == INSERTS else NARROW for name in MODULES}


@dataclass(frozen=True, kw_only=True)
class QaPage:
    """What ``templates/qa.html`` shows, from top to bottom.

    Args:
        title: heading.
        denoiser: its name and version.
        doses: in words.
        phantom: seed, pixels, their spacing, realisations.
        fixed: whether it is the one that is always the same.
        notes: what is to be known before the verdicts are read.
        verdicts: first of all.
        reasons: of the limits, by what was measured.
        noise: plots.
        planes_title: heading of the noise power by direction.
        planes: its pictures.
        sections: other plots and tables.
        viewers: pictures, of one module each, dose by dose.
        left_out: how many pictures the page has no room for.
        measured: how each quantity was measured, by name.
        not_measured: what was not.
        made_with: versions, weights and settings.
    """

    title: str
    denoiser: str
    doses: str
    phantom: Mapping[str, float]
    fixed: bool
    notes: Sequence[str]
    verdicts: VerdictTable
    reasons: Mapping[str, str]
    noise: Section
    planes_title: str
    planes: Sequence[Figure]
    sections: Sequence[Section]
    viewers: Sequence[Viewer]
    left_out: int
    measured: Mapping[str, str]
    not_measured: Sequence[str]
    made_with: Mapping[str, str]


def write_qa_page(path: Path, result: QaResult, *, made_with: Mapping[str, str]) -> Path:
    """Write one self-contained HTML file; it appears whole or not at all.

    Args:
        path: the file to write.
        result: what to show.
        made_with: see :func:`iscl_monai.report.write.provenance`.

    Returns:
        ``path``.
    """
    return write_page(path, "qa.html", _page(result, made_with))


def _page(result: QaResult, made_with: Mapping[str, str]) -> QaPage:
    wanted = [viewer for name in MODULES if (viewer := _viewer(result, name)).slices]
    viewers = [viewer for viewer in within(wanted) if viewer is not None]
    return QaPage(
        title=TITLE,
        denoiser=f"{result.denoiser['name']} {result.denoiser['version']}",
        doses=", ".join(percent(one.dose) for one in result.doses),
        phantom=result.phantom,
        fixed=result.phantom["seed"] == FIXED_SEED,
        notes=result.notes,
        verdicts=verdict_table(result),
        reasons={
            name: f"{reason.kind}. {reason.reason}"
            for name, reason in result.reasons.items()
            if result.limits.get(name) is not None
        },
        noise=Section(title="Noise and its texture", plots=list(noise_plots(result))),
        planes_title=f"Noise power by direction at {percent(result.doses[-1].dose)} of the dose",
        planes=_planes(result),
        sections=[
            *strength_sections(result.curves, result.curves_at, spacing_mm=result.phantom["spacing_mm"]),
            slices_section(result),
            tissues_section(result),
            Section(title="Borders in anatomy", plots=list(border_plots(result))),
            Section(title="Sharpness and Hounsfield units", plots=list(rod_plots(result))),
            rods_section(result),
            Section(title="Detectability", plots=list(task_plots(result))),
            Section(title="Small lesions and inventions", plots=list(lesion_plots(result))),
            calcifications_section(result),
        ],
        viewers=viewers,
        left_out=sum(len(one.slices) for one in wanted) - sum(len(one.slices) for one in viewers),
        measured=MEASURED,
        not_measured=NOT_MEASURED,
        made_with=made_with,
    )


def _planes(result: QaResult) -> list[Figure]:
    """Two-dimensional spectra at the lowest dose: texture that has a direction shows here."""
    lowest = result.doses[-1]
    textures = {"Input": lowest.texture_before, "Output": lowest.texture_after, "Removed": lowest.texture_removed}
    return [
        Figure(
            label=label,
            window=PLANE.name,
            alt=f"noise power, {label}",
            address=png_address(_relative(texture.plane_hu2_mm2), PLANE),
        )
        for label, texture in textures.items()
    ]


def _relative(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (power / max(float(power.max()), 1e-9)).astype(np.float32)


def _viewer(result: QaResult, name: str) -> Viewer:
    """One module, to be scrolled through from full dose down."""
    return Viewer(
        name=module_name(name),
        slices=[_viewed(picture) for picture in result.pictures if picture.module == name],
        window=WINDOWS[name],
        word="Dose",
    )


def _viewed(picture: Picture) -> ViewedSlice:
    return ViewedSlice(
        name=f"{percent(picture.dose)} of the dose",
        panes=[
            hu_pane("Before", picture.before_hu),
            hu_pane("After", picture.after_hu),
            hu_pane("Truth, without noise", picture.truth_hu),
            difference_pane("Error that stays: mean of all outputs minus truth", picture.error_hu),
        ],
    )
