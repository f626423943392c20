"""All test objects at one dose, before and after denoising."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.denoised import Denoising
from iscl_monai.evaluation.qa.phantom import ANATOMY, LOW_CONTRAST, MODULES, STACK, WATER, Phantom
from iscl_monai.evaluation.qa.result import Picture
from iscl_monai.evaluation.qa.tasks import Seen

SLICES_PER_REALISATION = 9

Volume = npt.NDArray[np.float32]


class Scans:
    """All objects at one dose; HU (realisation, row, column) by module.

    Args:
        phantom: what was scanned.
        dose: share of the full dose.
        denoise: the denoiser at work.
    """

    def __init__(self, phantom: Phantom, dose: float, denoise: Denoising) -> None:
        self.phantom, self.dose = phantom, dose
        self.before: dict[str, Volume] = {name: phantom.modules[name].scans_hu(dose) for name in MODULES}
        self.stack_before = phantom.stack.scans_hu(dose)

        def denoised(name: str, scans_hu: Volume) -> Volume:
            return denoise(f"{name}_{dose:g}", scans_hu)

        self.after = {name: denoised(name, self.before[name]) for name in MODULES}
        self.stack_after = denoised(STACK, self.stack_before)
        self.seen: dict[str, Seen] = {}
        for name in ANATOMY:
            absent_hu = self.before[name] - phantom.modules[name].signal_hu
            self.seen[name] = Seen(
                present_before_hu=self.before[name],
                absent_before_hu=absent_hu,
                present_after_hu=self.after[name],
                absent_after_hu=denoised(f"{name}.absent", absent_hu),
            )
        discs, water = self.before[LOW_CONTRAST], self.before[WATER]
        signal_hu = phantom.modules[LOW_CONTRAST].signal_hu
        added, taken = (
            denoised("water.discs", water + signal_hu),
            denoised(f"{LOW_CONTRAST}.absent", discs - signal_hu),
        )
        self.seen[LOW_CONTRAST] = Seen(
            present_before_hu=np.concatenate([discs, water + signal_hu]),
            absent_before_hu=np.concatenate([discs - signal_hu, water]),
            present_after_hu=np.concatenate([self.after[LOW_CONTRAST], added]),
            absent_after_hu=np.concatenate([taken, self.after[WATER]]),
        )

    def pair(self, name: str) -> tuple[Volume, Volume]:
        """Input and output."""
        return self.before[name], self.after[name]

    def water(self) -> tuple[Volume, Volume]:
        """Input and output of all scans of plain water: twice as many as there are realisations."""
        seen = self.seen[LOW_CONTRAST]
        return seen.absent_before_hu, seen.absent_after_hu

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


def slices_to_do(phantom: Phantom) -> int:
    """How many slices a check denoises, but for the few of :mod:`iscl_monai.evaluation.qa.robustness`."""
    return (SLICES_PER_REALISATION * phantom.realisations + len(phantom.stack.truth_hu)) * len(phantom.doses)
