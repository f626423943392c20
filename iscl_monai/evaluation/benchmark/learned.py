"""All learned methods trained: with one budget, each with its own small sweep if wanted, and with every seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iscl_monai.data import Datalist
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark.budget import schedule, steps_of
from iscl_monai.evaluation.benchmark.kept import read, write
from iscl_monai.evaluation.benchmark.methods import Method
from iscl_monai.evaluation.benchmark.pace import Bar, Pace, Shown, no_bar
from iscl_monai.evaluation.benchmark.sweep import Candidate, Swept, best
from iscl_monai.evaluation.benchmark.training import Training, trained

Tell = Callable[[str], object]

BUDGET = "budget.json"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What all trainings share.

    Args:
        datalist: see :class:`iscl_monai.evaluation.benchmark.run.Request`, as of all that follow.
        out: likewise.
        budget: likewise.
        seeds: likewise; a sweep is made with the first.
        bundle: likewise.
        configs: likewise.
        settings: likewise.
        sweep: whether each method is tried with its candidates first.
    """

    datalist: Path
    out: Path
    budget: str | None
    seeds: Sequence[int]
    bundle: Path
    configs: Sequence[str]
    settings: Mapping[str, Any]
    sweep: bool

    def trainings(self, learned: Sequence[Method]) -> int:
        """How many there are, tries of a sweep among them."""
        tries = sum(len(method.sweep) if self.sweep and method.sweep else 1 for method in learned)
        return tries + (len(self.seeds) - 1) * len(learned)

    def steps(self, learned: Sequence[Method]) -> int:
        """Of each training; decided once, so that a benchmark that goes on trains later methods no longer or shorter.

        Raises:
            ConfigRefusal: without a budget, or with another than before.
        """
        steps = self.decided_steps(learned)
        if steps is None:
            steps = steps_of(
                str(self.budget), self.config_files(), {**self.settings, "dataset_dir": str(self.datalist)}
            )
            write(self.out / BUDGET, {"budget": self.budget, "steps": steps})
        return steps

    def decided_steps(self, learned: Sequence[Method]) -> int | None:
        """Of each training, if an earlier run has decided it, or nothing is trained; else None.

        Raises:
            ConfigRefusal: without a budget, or with another than before.
        """
        if not learned:
            return 0
        if self.budget is None:
            raise ConfigRefusal(
                f"no --budget for {', '.join(method.name for method in learned)}",
                allowed="such as 500steps or 20min, the same for all",
                cure="give it, or choose methods that are not trained with --method",
            )
        kept = self.out / BUDGET
        if not kept.is_file():
            return None
        held = read(kept) or {}
        if held.get("budget") != self.budget or not isinstance(held.get("steps"), int):
            raise ConfigRefusal(
                f"--budget {self.budget} in {self.out}, which was begun with {held.get('budget', 'another')}",
                allowed="one budget for all methods",
                cure="give another --out",
            )
        return int(held["steps"])

    def config_files(self, *more: str) -> list[str]:
        """Paths of ``train.json``, the configs for all methods, and those of one."""
        return [str(self.bundle / "configs" / name) for name in ("train.json", *self.configs, *more)]

    def configured(self, method: Method, name: str) -> Any:
        """A setting as the method gets it without a sweep: what the last that says so wants."""
        given = [(read(Path(config)) or {}).get(name) for config in self.config_files(*method.configs)]
        given += [self.settings.get(name), method.settings.get(name)]
        return [value for value in given if value is not None][-1]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """All trainings.

    Args:
        trainings: by name of the method and seed.
        swept: what the sweeps chose.
        steps: of each training.
    """

    trainings: Mapping[tuple[str, int], Training]
    swept: Sequence[Swept]
    steps: int


def train_all(plan: TrainingPlan, methods: Sequence[Method], scans: Datalist, tell: Tell, bar: Bar = no_bar) -> Learned:
    """Train, continue or find done every method with every seed.

    Args:
        plan: what they share.
        methods: of :func:`iscl_monai.evaluation.benchmark.methods.trainings`.
        scans: of ``plan.datalist``.
        tell: called with one line as each training begins.
        bar: of the steps of all trainings.

    Raises:
        Refusal: whatever a training or a setting was refused for; a sweep without validation pairs.
    """
    check_sweep(plan, methods, scans)
    steps = plan.steps(methods)
    shown = Shown(work="training", pace=Pace(count=plan.trainings(methods)), size=steps, tell=tell, bar=bar)
    trainings: dict[tuple[str, int], Training] = {}
    swept = []
    for seed in plan.seeds:
        for method in methods:
            if plan.sweep and method.sweep and seed == plan.seeds[0]:
                found, trainings[method.name, seed] = _swept(plan, method, scans, shown)
                swept.append(found)
                continue
            chosen = next((one.settings for one in swept if one.title == method.title), {})
            of_method = replace(method, settings={**method.settings, **chosen})
            trainings[method.name, seed] = _train(plan, of_method, f"seed{seed}", seed, scans, shown)
    return Learned(trainings=trainings, swept=tuple(swept), steps=steps)


def _swept(plan: TrainingPlan, method: Method, scans: Datalist, shown: Shown) -> tuple[Swept, Training]:
    """Every candidate trained with the first seed for as long as any training; the best of them is that seed's."""
    configured = {name: plan.configured(method, name) for name in ("learning_rate", "nested_weight")}
    done: dict[Candidate, Training] = {}
    for candidate in method.sweep:
        settings = {**method.settings, **candidate.settings(configured)}
        done[candidate] = _train(
            plan, replace(method, settings=settings), candidate.folder, plan.seeds[0], scans, shown
        )
    validation_db = {candidate: training.validation_db for candidate, training in done.items()}
    chosen = best(validation_db)
    found = Swept(title=method.title, validation_db=validation_db, chosen=chosen, settings=chosen.settings(configured))
    return found, done[chosen]


def _train(plan: TrainingPlan, method: Method, name: str, seed: int, scans: Datalist, shown: Shown) -> Training:
    folder = plan.out / method.name / name
    shared = replace(method, settings={})
    settings = {
        **schedule(shown.size, int(plan.configured(shared, "warm_up_steps"))),
        **plan.settings,
        **method.settings,
        "dataset_dir": str(plan.datalist.resolve()),
        "seed": seed,
    }
    title = f"{method.title}, {name}, seed {seed}, {shown.size} steps (log: {folder / 'train.log'})"
    with shown.begins(title) as progress:
        training = trained(
            method,
            folder,
            configs=plan.config_files(*method.configs),
            metadata=plan.bundle / "configs" / "metadata.json",
            settings=settings,
            scans=scans.identity,
            progress=progress,
        )
    shown.pace.took(training.seconds)
    return training


def check_sweep(plan: TrainingPlan, methods: Sequence[Method], scans: Datalist) -> None:
    """Refuse a sweep that nothing could choose by.

    Raises:
        ConfigRefusal: no validation pairs.
    """
    if plan.sweep and methods and not scans.validation:
        raise ConfigRefusal(
            "--sweep without validation pairs", allowed="a datalist with validation", cure="add pairs, or leave it out"
        )
