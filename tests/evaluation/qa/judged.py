"""A quality check for many cheats: scans are read once, and what they do at full dose is measured once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
from evaluation.qa.denoisers import Made, Oracle, Slice

from iscl_monai.evaluation.qa import Limits, Verdict
from iscl_monai.evaluation.qa.denoised import Denoising
from iscl_monai.evaluation.qa.figures import RobustnessFigures
from iscl_monai.evaluation.qa.phantom import Module, Phantom, Stack
from iscl_monai.evaluation.qa.result import DoseResult
from iscl_monai.evaluation.qa.run import measured_at
from iscl_monai.evaluation.qa.scans import Scans
from iscl_monai.evaluation.qa.verdicts import verdicts

DOSE = 0.25
NOTHING_BESIDE = RobustnessFigures(
    full_dose_change_hu=0.0, full_dose_psnr_db=99.0, padded_hu=0.0, cropped_hu=0.0, repeat_hu=0.0
)
"""Full-dose input and the like are tested elsewhere; every cheat here is honest at full dose."""


class _ReadOnce:
    """Scans stay in memory."""

    def scans_hu(self, dose: float) -> np.ndarray:
        read = self.__dict__.setdefault("read", {})
        if dose not in read:
            read[dose] = super().scans_hu(dose)  # type: ignore[misc]
        return read[dose]


class ModuleReadOnce(_ReadOnce, Module):
    pass


class StackReadOnce(_ReadOnce, Stack):
    pass


def in_memory(phantom: Phantom) -> Phantom:
    """The same phantom, whose scans are read once."""

    def copied(kind: type, one: object) -> object:
        return kind(**{field.name: getattr(one, field.name) for field in fields(one)})  # type: ignore[arg-type]

    modules = {name: copied(ModuleReadOnce, module) for name, module in phantom.modules.items()}
    return replace(phantom, modules=modules, stack=copied(StackReadOnce, phantom.stack))


class Judge:
    """Holds denoisers against the proposed limits at one dose, beside what the oracle does at full dose."""

    def __init__(self, phantom: Phantom) -> None:
        self.phantom = in_memory(phantom)
        self.oracle = Oracle(self.phantom)
        self.full = self.measured(self.oracle, 1.0)

    def measured(self, denoised: Callable[[Slice], Slice] | Made, dose: float) -> DoseResult:
        denoiser = denoised if isinstance(denoised, Made) else Made(denoised)
        return measured_at(self.phantom, dose, Scans(self.phantom, dose, Denoising(denoiser)))

    def verdicts(self, denoised: Callable[[Slice], Slice] | Made, dose: float = DOSE) -> tuple[Verdict, ...]:
        found = verdicts([self.full, self.measured(denoised, dose)], NOTHING_BESIDE, Limits.proposed())
        return tuple(one for one in found if one.dose == dose)

    def faults(self, denoised: Callable[[Slice], Slice] | Made, dose: float = DOSE) -> set[str]:
        return {one.limit for one in self.verdicts(denoised, dose) if one.status == "fault"}
