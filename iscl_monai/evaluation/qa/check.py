"""A whole check in a folder of its own: phantom, scans, figures beside, page; killed, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from iscl_monai.baselines import classical
from iscl_monai.durable import resumable_folder, whole_file
from iscl_monai.evaluation.qa.beside import dose_beside, figures_beside
from iscl_monai.evaluation.qa.denoised import Progress
from iscl_monai.evaluation.qa.limits import Limits
from iscl_monai.evaluation.qa.making import FIXED_SEED, Size, cache_folder, make_phantom
from iscl_monai.evaluation.qa.page import write_qa_page
from iscl_monai.evaluation.qa.phantom import read_phantom
from iscl_monai.evaluation.qa.result import Beside, QaResult
from iscl_monai.evaluation.qa.run import described, run_qa
from iscl_monai.evaluation.qa.scans import slices_to_do
from iscl_monai.evaluation.qa.strength import curves_of, slices_at
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.report.write import provenance

LARGEST_SEED = 10**6
SEED, PHANTOM, DENOISED = "seed", "phantom", "denoised"

Bar = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a progress bar: what is done, and how many slices there are."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be checked.

    Args:
        size: of the phantom.
        dataset: test objects that are there already; None: they are made.
        seed: of the phantom; None: drawn, so that nobody can know it.
        doses: shares of the full dose; None: those of the size, and one between them.
        limits: to hold the denoiser against.
        beside: classical filters to measure on the same phantom.
    """

    size: Size
    dataset: Path | None = None
    seed: int | None = None
    doses: Sequence[float] | None = None
    limits: Limits
    beside: Sequence[str] = ()

    def identity(self, denoiser: SliceDenoiser) -> str:
        """Tells this work from any other; limits may be edited between two runs."""
        work = [asdict(self.size), str(self.dataset), self.seed, self.doses and [*self.doses], described(denoiser)]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]


def check(out: Path, denoiser: SliceDenoiser, plan: Plan, *, say: Callable[[str], object], bar: Bar) -> QaResult:
    """Measure a denoiser, and write ``qa.json`` and ``qa.html``.

    Args:
        out: a new folder.
        denoiser: to check.
        plan: how.
        say: called with a line for the user.
        bar: see :data:`Bar`.

    Raises:
        Refusal: as :func:`run_qa` and :func:`make_phantom`; ``out`` exists, or another run is writing it.
    """
    with resumable_folder(out, plan.identity(denoiser)) as folder:
        dataset = _dataset(folder, plan, say)
        phantom = read_phantom(dataset, plan.doses)
        keep = folder / DENOISED
        keep.mkdir(exist_ok=True)
        with bar("measuring", slices_to_do(phantom)) as progress:
            result = run_qa(denoiser, dataset, doses=plan.doses, limits=plan.limits, keep=keep, progress=progress)
        dose = dose_beside(phantom)
        with bar("filters beside", len(plan.beside)) as progress:
            beside: list[Beside] = []
            for name in plan.beside:
                beside += figures_beside([name], dataset, dose=dose)
                progress(1)
        slices = slices_at(phantom, dose)
        compared = [denoiser, *map(classical, plan.beside)]
        with bar("curves over the strength", len(slices) * len(compared)) as progress:
            curves = curves_of(compared, slices, progress)
        result = replace(result, beside=tuple(beside), curves=curves, curves_at=dose)
        text = json.dumps(result.to_json(), indent=1) + "\n"
        (folder / "qa.json").write_text(text, encoding="utf-8")
        write_qa_page(folder / "qa.html", result, made_with=provenance() | dict(result.denoiser))
        for name in (PHANTOM, DENOISED):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / SEED).unlink(missing_ok=True)
    return result


def _dataset(folder: Path, plan: Plan, say: Callable[[str], object]) -> Path:
    """Test objects that were given, that are kept for everybody, or that are made for this run alone."""
    if plan.dataset is not None:
        return plan.dataset
    size = plan.size if plan.doses is None else replace(plan.size, doses=_doses(plan))
    seed = drawn_seed(folder) if plan.seed is None else plan.seed
    say(f"phantom of seed {seed}; the same again with --seed {seed}")
    place = cache_folder(size) if seed == FIXED_SEED else folder / PHANTOM
    return make_phantom(place, size, seed=seed)


def _doses(plan: Plan) -> tuple[float, ...]:
    """Those of the size if all are among them, so that a phantom that is there already serves."""
    wanted = {*(plan.doses or ())}
    return plan.size.doses if wanted <= {*plan.size.doses} else tuple(sorted({1.0, *wanted}, reverse=True))


def drawn_seed(folder: Path) -> int:
    """Drawn at the first run in a folder, and the same when it is run again after a kill."""
    file = folder / SEED
    if not file.exists():
        with whole_file(file) as opened:
            opened.write(str(FIXED_SEED + 1 + secrets.randbelow(LARGEST_SEED)).encode())
    return int(file.read_text())
