"""The headline numbers of the quality check, for each method."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark.pace import Progress
from iscl_monai.evaluation.qa import FULL, QUICK, Limits, cache_folder, headline, make_phantom, run_qa
from iscl_monai.evaluation.qa.phantom import read_phantom
from iscl_monai.evaluation.qa.scans import slices_to_do
from iscl_monai.inference import SliceDenoiser
from iscl_monai.phantom.parts import MANIFEST

DOSE = 0.25
SIZES = {"quick": QUICK, "full": FULL}
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Physics:
    """How denoisers are measured on phantoms.

    Args:
        identity: of the test objects and the dose.
        measure: headline numbers of a denoiser; the progress is called with how many slices were denoised since.
        slices: that are denoised for it, about.
    """

    identity: dict[str, Any]
    measure: Callable[[SliceDenoiser, Progress], dict[str, float]]
    slices: int = 0


def check_physics(size: str) -> str:
    """The word, if it is one.

    Raises:
        ConfigRefusal: another word.
    """
    if size not in (NONE, *SIZES):
        raise ConfigRefusal(f"--physics {size}", allowed="none, quick or full", cure="choose one")
    return size


def physics_of(size: str) -> Physics | None:
    """What measures a denoiser on phantoms at a quarter of the dose.

    Args:
        size: ``quick``, ``full`` (as ``iscl-monai qa``, slow) or ``none``.

    Returns:
        See :func:`iscl_monai.evaluation.qa.headline`; None for ``none``.

    Raises:
        ConfigRefusal: another word.
    """
    if check_physics(size) == NONE:
        return None
    folder = make_phantom(cache_folder(SIZES[size]), SIZES[size])
    limits = Limits.proposed()

    doses = (1.0, DOSE)

    def measure(denoiser: SliceDenoiser, progress: Progress) -> dict[str, float]:
        return headline(run_qa(denoiser, folder, doses=doses, limits=limits, progress=progress), DOSE)

    made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))  # its seed and recipe, too
    return Physics(
        identity={"phantom": made, "dose": DOSE}, measure=measure, slices=slices_to_do(read_phantom(folder, doses))
    )
