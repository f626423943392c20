"""What classical filters reach on the same phantom: a limit that none of them meets may be a wish too far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from iscl_monai.baselines import CLASSICAL, classical
from iscl_monai.durable import whole_file
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.qa.denoised import Progress
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.making import cache
from iscl_monai.evaluation.qa.phantom import FULL_DOSE, Phantom
from iscl_monai.evaluation.qa.result import Beside
from iscl_monai.evaluation.qa.run import run_qa
from iscl_monai.phantom.parts import MANIFEST

USUAL = ("nlm", "tv")
REALISATIONS = 6
"""Of each object; fewer than the check itself uses, for filters are slow and only stand beside it."""

DOSE = 0.25
VERSION = 1
"""Raise whenever the same filter on the same phantom gives other figures."""


def chosen(names: str) -> tuple[str, ...]:
    """Filters from their list, such as ``nlm,tv``; ``none`` for none.

    Raises:
        ConfigRefusal: an unknown name.
    """
    if names == "none":
        return ()
    listed = tuple(name.strip() for name in names.split(","))
    for name in listed:
        if name not in CLASSICAL:
            raise ConfigRefusal(
                f"--beside {names}", allowed=f"none, or some of {', '.join(CLASSICAL)}", cure="such as nlm,tv"
            )
    return listed


def dose_beside(phantom: Phantom) -> float:
    """The dose below full at which filters are shown: the one nearest to a quarter."""
    below = [dose for dose in phantom.doses if dose < FULL_DOSE] or [FULL_DOSE]
    return min(below, key=lambda dose: abs(dose - DOSE))


def figures_beside(
    names: Sequence[str], dataset: Path, *, dose: float, progress: Progress | None = None
) -> tuple[Beside, ...]:
    """Measure filters, or find their figures in the cache.

    Args:
        names: of :data:`iscl_monai.baselines.CLASSICAL`.
        dataset: the phantom.
        dose: share of the full dose.
        progress: see :func:`iscl_monai.evaluation.qa.run.run_qa`.
    """
    return tuple(_beside(name, dataset, dose, progress) for name in names)


def _beside(name: str, dataset: Path, dose: float, progress: Progress | None) -> Beside:
    denoiser = classical(name)
    manifest = (dataset / MANIFEST).read_text(encoding="utf-8")
    identity = [VERSION, manifest, dose, denoiser.identity.weights_digest, denoiser.identity.version]
    file = cache() / "beside" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]}.json"
    if file.exists():
        return Beside(**json.loads(file.read_text(encoding="utf-8")))
    result = run_qa(
        denoiser,
        dataset,
        doses=(FULL_DOSE, dose),
        limits=Limits.proposed(),
        most_realisations=REALISATIONS,
        progress=progress,
    )
    values = {one.line: one.value for one in result.verdicts if one.dose in (None, dose)}
    found = Beside(name=denoiser.identity.name, dose=dose, values=values)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as opened:
        opened.write(json.dumps(asdict(found)).encode())
    return found
