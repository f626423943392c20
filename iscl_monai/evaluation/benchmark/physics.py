"""The headline numbers of the quality check, for each method."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.qa import FULL, QUICK, Limits, cache_folder, headline, make_phantom, run_qa
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
        measure: headline numbers of a denoiser.
    """

    identity: dict[str, Any]
    measure: Callable[[SliceDenoiser], dict[str, float]]


def physics_of(size: str) -> Physics | None:
    """What measures a denoiser on phantoms at a quarter of the dose.

    Args:
        size: ``quick``, ``full`` (as ``iscl-monai qa``, slow) or ``none``.

    Returns:
        See :func:`iscl_monai.evaluation.qa.headline`; None for ``none``.

    Raises:
        ConfigRefusal: another word.
    """
    if size == NONE:
        return None
    if size not in SIZES:
        raise ConfigRefusal(f"--physics {size}", allowed="none, quick or full", cure="choose one")
    folder = make_phantom(cache_folder(SIZES[size]), SIZES[size])
    limits = Limits.proposed()

    def measure(denoiser: SliceDenoiser) -> dict[str, float]:
        return headline(run_qa(denoiser, folder, doses=(1.0, DOSE), limits=limits), DOSE)

    made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))  # its seed and recipe, too
    return Physics(identity={"phantom": made, "dose": DOSE}, measure=measure)
