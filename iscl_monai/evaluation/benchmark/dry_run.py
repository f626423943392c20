"""``iscl-monai benchmark --dry-run``: what a run would do; nothing is trained, measured or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.data import Datalist, references
from iscl_monai.evaluation.benchmark.budget import given_steps
from iscl_monai.evaluation.benchmark.learned import check_sweep
from iscl_monai.evaluation.benchmark.methods import Method, trainings
from iscl_monai.evaluation.benchmark.run import Request, check_submitted, rows_of
from iscl_monai.evaluation.benchmark.training import DONE
from iscl_monai.evaluation.pairs import pairs_in
from iscl_monai.report.numbers import counted


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What would become of a benchmark.

    Args:
        rows: titles of what would be scored, with their seeds.
        trainings: folders of those that would be trained or continued.
        trained: folders of those that an earlier run finished.
        steps: of each training; None: decided by the speed of this machine when the first begins.
        budget: as given.
        section: that is scored.
        pairs: how many there are.
        patients: that they are of.
        virtual_patients: made up for the scoring.
        physics: on phantoms: none, quick or full.
    """

    rows: Sequence[str]
    trainings: Sequence[Path]
    trained: Sequence[Path]
    steps: int | None
    budget: str | None
    section: str
    pairs: int
    patients: int
    virtual_patients: int
    physics: str

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"would train: {folder}, {self._length()}" for folder in self.trainings]
        lines += [f"trained already: {folder}" for folder in self.trained]
        lines += [f"would score: {row}" for row in self.rows]
        scored = f"{counted(self.pairs, 'pair')} of {counted(self.patients, 'patient')} in {self.section}"
        virtual = f", {counted(self.virtual_patients, 'virtual patient')}" if self.virtual_patients else ""
        lines.append(
            f"{counted(len(self.trainings), 'training')} to do, {counted(len(self.rows), 'row')}, {scored}{virtual}, "
            f"phantoms: {self.physics}; nothing was written"
        )
        return lines

    def _length(self) -> str:
        if self.steps is not None:
            return counted(self.steps, "step")
        return f"as many steps as ISCL makes in {self.budget} here"


def dry_run(request: Request, *, physics: str) -> DryRun:
    """Plan everything as a run does, and refuse what it would refuse before it trains.

    The scans themselves are not read: ``iscl-monai check-data`` does that. Nor is a training of an earlier run held
    against the settings of this one.

    Args:
        request: what is asked for; its ``physics`` is not needed.
        physics: none, quick or full.

    Raises:
        Refusal: what is wrong with the datalist, the budget or a submitted method.
    """
    scans = Datalist.load(request.datalist)
    pairs = pairs_in(scans, request.section)
    check_submitted(request.methods, pairs, scans.split_protocol)
    plan, learned = request.plan(), trainings(request.methods)
    check_sweep(plan, learned, scans)
    if any(method.kind == "supervised" for method in learned):
        references(scans.noisy)
    folders = [request.out / folder for folder in _training_folders(request, learned)]
    return DryRun(
        rows=[f"{one.title}, seed {seed}" if one.training else one.title for one, seed in rows_of(request)],
        trainings=[folder for folder in folders if not (folder / DONE).is_file()],
        trained=[folder for folder in folders if (folder / DONE).is_file()],
        steps=_steps(request, plan.decided_steps(learned)),
        budget=request.budget,
        section=request.section,
        pairs=len(pairs),
        patients=len({pair.patient for pair in pairs}),
        virtual_patients=request.virtual_patients,
        physics=physics,
    )


def _steps(request: Request, decided: int | None) -> int | None:
    return given_steps(str(request.budget)) if decided is None else decided


def _training_folders(request: Request, learned: Sequence[Method]) -> list[str]:
    """Below ``out``, in the order they are trained in."""
    return [
        f"{method.name}/{name}"
        for seed in request.seeds
        for method in learned
        for name in (
            [candidate.folder for candidate in method.sweep]
            if request.sweep and method.sweep and seed == request.seeds[0]
            else [f"seed{seed}"]
        )
    ]
