"""A quality check from phantom to verdicts: for each dose every object is denoised, and everything measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.accuracy import accuracy
from iscl_monai.evaluation.qa.between_slices import steadiness
from iscl_monai.evaluation.qa.borders import border_figures, step_left
from iscl_monai.evaluation.qa.denoised import Denoising, Progress
from iscl_monai.evaluation.qa.invention import invention
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.noise import noise_figures, own_noise_share, texture
from iscl_monai.evaluation.qa.patterns import fixed_pattern_hu, grey_steps
from iscl_monai.evaluation.qa.phantom import (
    ANATOMY,
    FULL_DOSE,
    INSERTS,
    LOW_CONTRAST,
    MODULES,
    WATER,
    Phantom,
    read_phantom,
)
from iscl_monai.evaluation.qa.regions import body_of, flat_parts, inside_of
from iscl_monai.evaluation.qa.result import DoseResult, Picture, QaResult
from iscl_monai.evaluation.qa.robustness import robustness
from iscl_monai.evaluation.qa.scans import Scans
from iscl_monai.evaluation.qa.tasks import calcification_figures, detectability, lesion_figures, removed_share
from iscl_monai.evaluation.qa.tissue import displacement_mm, tissue_figures
from iscl_monai.evaluation.qa.verdicts import verdicts
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.quality.linearity import slice_behaviour
from iscl_monai.quality.noise import residual_correlation

Volume = npt.NDArray[np.float32]


def run_qa(
    denoiser: SliceDenoiser,
    dataset: Path,
    *,
    doses: Sequence[float] | None = None,
    limits: Limits,
    most_realisations: int | None = None,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> QaResult:
    """Measure a denoiser on phantoms, and hold it against limits.

    Args:
        denoiser: anything that denoises slices; one that looks at neighbours, too, is a
            :class:`iscl_monai.inference.slice_denoiser.VolumeDenoiser` besides.
        dataset: folder of the test objects, see :func:`iscl_monai.evaluation.qa.making.make_phantom`. With fewer
            than 10 realisations a few signals stand for all.
        doses: shares of the full dose to measure at; None: all that are there. Full dose is always among them.
        limits: see :meth:`Limits.proposed`.
        most_realisations: of each object, to use; None: all.
        keep: folder where denoised scans are kept, and found again by the next run with the same denoiser; None: none.
        progress: called with the number of slices done, :func:`iscl_monai.evaluation.qa.scans.slices_to_do` in all.

    Returns:
        Everything that was found.

    Raises:
        ConfigRefusal: if the phantom is not there, is an older one, or lacks a dose.
        ImageRefusal: if the denoiser gives what cannot be measured.
    """
    phantom = read_phantom(dataset, doses, most_realisations=most_realisations)
    denoise = Denoising(denoiser, keep, progress)
    measured: list[DoseResult] = []
    pictures: list[Picture] = []
    full_dose: list[Volume] = []
    for dose in phantom.doses:
        scans = Scans(phantom, dose, denoise)
        measured.append(measured_at(phantom, dose, scans))
        pictures += [scans.picture(name) for name in MODULES]
        if dose == FULL_DOSE:
            full_dose = [np.concatenate([each[name] for name in ANATOMY]) for each in (scans.before, scans.after)]
    # The lowest dose comes last: there a denoiser does most.
    body = np.repeat(np.stack([body_of(phantom, name) for name in ANATOMY]), phantom.realisations, axis=0)
    beside = robustness(denoiser, scans.before[ANATOMY[1]][0], (full_dose[0], full_dose[1]), body=body)
    return QaResult(
        denoiser=described(denoiser),
        phantom={
            "seed": phantom.seed,
            "pixels": len(phantom.modules[WATER].truth_hu),
            "spacing_mm": phantom.spacing_mm,
            "realisations": phantom.realisations,
            "photons": phantom.photons,
        },
        doses=tuple(measured),
        robustness=beside,
        limits=limits.numbers(),
        verdicts=verdicts(measured, beside, limits),
        reasons=limits.reasons,
        pictures=tuple(pictures),
    )


def described(denoiser: SliceDenoiser) -> dict[str, str]:
    """Who a denoiser is, and all settings that can change a pixel."""
    identity = denoiser.identity
    settings = {"name": identity.name, "version": identity.version, "weights": identity.weights_digest}
    return settings | denoiser.parameters


def measured_at(phantom: Phantom, dose: float, scans: Scans) -> DoseResult:
    """Everything that is measured at one dose."""
    water = phantom.modules[WATER].facts["background"]
    disc = {
        "centre": tuple(water["centre_row_column"]),
        "radius_mm": water["radius_mm"],
        "spacing_mm": phantom.spacing_mm,
    }
    before_hu, after_hu = scans.pair(WATER)
    looked_at = (WATER, *ANATOMY)
    flat = {name: flat_parts(phantom, name) for name in looked_at}
    inside = {name: inside_of(phantom, name) for name in looked_at}
    lesions = tuple(one for name in ANATOMY for one in lesion_figures(phantom, name, scans.seen[name]))
    return DoseResult(
        dose=dose,
        noise=tuple(noise_figures(name, *scans.pair(name), flat[name]) for name in looked_at),
        texture_before=texture(before_hu, **disc),
        texture_after=texture(after_hu, **disc),
        texture_removed=texture(before_hu - after_hu, **disc),
        accuracy=accuracy(phantom, inserts=scans.pair(INSERTS), water=scans.pair(WATER)),
        tasks=tuple(one for name in (LOW_CONTRAST, *ANATOMY) for one in detectability(phantom, name, scans.seen[name])),
        lesions=lesions,
        calcifications=tuple(one for name in ANATOMY for one in calcification_figures(phantom, name, scans.seen[name])),
        removed=removed_share(lesions),
        invention=tuple(invention(phantom, name, *scans.pair(name)) for name in looked_at),
        tissues=tuple(one for name in ANATOMY for one in tissue_figures(phantom, name, *scans.pair(name))),
        borders=tuple(one for name in ANATOMY for one in border_figures(phantom, name, scans.after[name])),
        step_left=step_left(phantom, scans.stack_after),
        steadiness=tuple(steadiness(name, *scans.pair(name), flat[name]) for name in looked_at),
        own_noise_share=own_noise_share(*scans.water(), **disc),
        fixed_pattern_hu=fixed_pattern_hu(*scans.water(), inside[WATER]),
        grey_steps={name: grey_steps(scans.after[name], inside[name]) for name in ANATOMY},
        moved_mm={name: displacement_mm(phantom, name, scans.after[name]) for name in (INSERTS, *ANATOMY)},
        across={name: slice_behaviour(scans.after[name], scans.before[name], mask=inside[name]) for name in looked_at},
        residual_edges={name: _edges(*scans.pair(name), inside[name]) for name in ANATOMY},
    )


def _edges(before_hu: Volume, after_hu: Volume, inside: npt.NDArray[np.bool_]) -> float:
    mask = np.broadcast_to(inside, before_hu.shape)
    return residual_correlation(before_hu, after_hu, mask=mask).edges
