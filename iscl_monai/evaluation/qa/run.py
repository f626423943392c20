"""A quality check from phantom to verdicts: for each dose every object is denoised, and everything measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.accuracy import accuracy
from iscl_monai.evaluation.qa.invention import flat_parts, inside_of, invention
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.noise import noise_figures, texture
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
from iscl_monai.evaluation.qa.result import DoseResult, Picture, QaResult
from iscl_monai.evaluation.qa.robustness import robustness
from iscl_monai.evaluation.qa.tasks import Seen, detectability, lesion_figures, removed_share
from iscl_monai.evaluation.qa.tissue import displacement_mm, tissue_figures
from iscl_monai.evaluation.qa.verdicts import verdicts
from iscl_monai.inference.slice_denoiser import SliceDenoiser, denoise_volume
from iscl_monai.quality.linearity import slice_behaviour
from iscl_monai.quality.noise import residual_correlation

SLICES_PER_REALISATION = 9

Volume = npt.NDArray[np.float32]
Progress = Callable[[int], object]


def run_qa(
    denoiser: SliceDenoiser,
    dataset: Path,
    *,
    doses: Sequence[float] | None = None,
    limits: Limits,
    progress: Progress | None = None,
) -> QaResult:
    """Measure a denoiser on phantoms, and hold it against limits.

    Args:
        denoiser: anything that denoises slices.
        dataset: folder of the test objects, see :func:`iscl_monai.evaluation.qa.phantom.make_phantom`. With fewer
            than 10 realisations a few signals stand for all.
        doses: shares of the full dose to measure at; None: all that are there. Full dose is always among them.
        limits: see :meth:`Limits.proposed`.
        progress: called with 1 after each slice, :func:`slices_to_do` times.

    Returns:
        Everything that was found.

    Raises:
        ConfigRefusal: if the phantom is not there, is an older one, or lacks a dose.
        ImageRefusal: if the denoiser gives what cannot be measured.
    """
    phantom = read_phantom(dataset, doses)
    measured: list[DoseResult] = []
    pictures: list[Picture] = []
    full_dose: list[Volume] = []
    for dose in phantom.doses:
        scans = _Scans(phantom, dose, denoiser, progress)
        measured.append(_measured(phantom, dose, scans))
        pictures += [scans.picture(name) for name in MODULES]
        if dose == FULL_DOSE:
            full_dose = [np.concatenate([each[name] for name in ANATOMY]) for each in (scans.before, scans.after)]
    # The lowest dose comes last: there a denoiser does most.
    beside = robustness(denoiser, scans.before[ANATOMY[1]][0], (full_dose[0], full_dose[1]))
    return QaResult(
        denoiser=_described(denoiser),
        phantom={
            "pixels": len(phantom.modules[WATER].truth_hu),
            "spacing_mm": phantom.spacing_mm,
            "realisations": phantom.realisations,
            "photons": phantom.photons,
        },
        doses=tuple(measured),
        robustness=beside,
        limits=asdict(limits),
        verdicts=verdicts(measured, beside, limits),
        pictures=tuple(pictures),
    )


def slices_to_do(realisations: int, doses: int) -> int:
    """How often :func:`run_qa` calls its ``progress``."""
    return SLICES_PER_REALISATION * realisations * doses


def _described(denoiser: SliceDenoiser) -> dict[str, str]:
    identity = denoiser.identity
    settings = {"name": identity.name, "version": identity.version, "weights": identity.weights_digest}
    return settings | denoiser.parameters


class _Scans:
    """All objects at one dose, before and after denoising; HU (realisation, row, column) by module."""

    def __init__(self, phantom: Phantom, dose: float, denoiser: SliceDenoiser, progress: Progress | None) -> None:
        self.phantom, self.dose = phantom, dose
        self.before: dict[str, Volume] = {name: phantom.modules[name].scans_hu(dose) for name in MODULES}
        self.after: dict[str, Volume] = {}
        self.seen: dict[str, Seen] = {}

        def denoised(scans_hu: Volume) -> Volume:
            return denoise_volume(scans_hu, denoiser, progress=progress)

        for name in MODULES:
            self.after[name] = denoised(self.before[name])
        for name in ANATOMY:
            absent_hu = self.before[name] - phantom.modules[name].signal_hu
            self.seen[name] = Seen(
                present_before_hu=self.before[name],
                absent_before_hu=absent_hu,
                present_after_hu=self.after[name],
                absent_after_hu=denoised(absent_hu),
            )
        discs, water = self.before[LOW_CONTRAST], self.before[WATER]
        signal_hu = phantom.modules[LOW_CONTRAST].signal_hu
        self.seen[LOW_CONTRAST] = Seen(
            present_before_hu=np.concatenate([discs, water + signal_hu]),
            absent_before_hu=np.concatenate([discs - signal_hu, water]),
            present_after_hu=np.concatenate([self.after[LOW_CONTRAST], denoised(water + signal_hu)]),
            absent_after_hu=np.concatenate([denoised(discs - signal_hu), self.after[WATER]]),
        )

    def pair(self, name: str) -> tuple[Volume, Volume]:
        """Input and output."""
        return self.before[name], self.after[name]

    def picture(self, name: str) -> Picture:
        """The first realisation, and what all have in common."""
        truth_hu = self.phantom.modules[name].truth_hu
        return Picture(
            module=name,
            dose=self.dose,
            before_hu=self.before[name][0].copy(),
            after_hu=self.after[name][0].copy(),
            truth_hu=truth_hu,
            error_hu=self.after[name].mean(axis=0) - truth_hu,
        )


def _measured(phantom: Phantom, dose: float, scans: _Scans) -> DoseResult:
    water = phantom.modules[WATER].facts["background"]
    disc = {
        "centre": tuple(water["centre_row_column"]),
        "radius_mm": water["radius_mm"],
        "spacing_mm": phantom.spacing_mm,
    }
    before_hu, after_hu = scans.pair(WATER)
    looked_at = (WATER, *ANATOMY)
    lesions = tuple(one for name in ANATOMY for one in lesion_figures(phantom, name, scans.seen[name]))
    inside = {name: inside_of(phantom, name) for name in looked_at}
    return DoseResult(
        dose=dose,
        noise=tuple(noise_figures(name, *scans.pair(name), flat_parts(phantom, name)) for name in looked_at),
        texture_before=texture(before_hu, **disc),
        texture_after=texture(after_hu, **disc),
        texture_removed=texture(before_hu - after_hu, **disc),
        accuracy=accuracy(phantom, inserts=scans.pair(INSERTS), water=scans.pair(WATER)),
        tasks=tuple(one for name in (LOW_CONTRAST, *ANATOMY) for one in detectability(phantom, name, scans.seen[name])),
        lesions=lesions,
        removed=removed_share(lesions),
        invention=tuple(invention(phantom, name, *scans.pair(name)) for name in looked_at),
        tissues=tuple(one for name in ANATOMY for one in tissue_figures(phantom, name, *scans.pair(name))),
        moved_mm={name: displacement_mm(phantom, name, scans.after[name]) for name in (INSERTS, *ANATOMY)},
        across={name: slice_behaviour(scans.after[name], scans.before[name], mask=inside[name]) for name in looked_at},
        residual_edges={name: _edges(*scans.pair(name), inside[name]) for name in ANATOMY},
    )


def _edges(before_hu: Volume, after_hu: Volume, inside: npt.NDArray[np.bool_]) -> float:
    mask = np.broadcast_to(inside, before_hu.shape)
    return residual_correlation(before_hu, after_hu, mask=mask).edges
