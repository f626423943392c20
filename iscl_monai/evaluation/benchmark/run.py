"""The whole benchmark, step by step; what is done stays done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from iscl_monai.data import Datalist, ScanPair
from iscl_monai.durable import whole_file
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark import score
from iscl_monai.evaluation.benchmark.ceiling import ceilings
from iscl_monai.evaluation.benchmark.cost import Cost, cost_of
from iscl_monai.evaluation.benchmark.denoisers import denoiser_of
from iscl_monai.evaluation.benchmark.kept import once, with_nan, write
from iscl_monai.evaluation.benchmark.learned import TrainingPlan, train_all
from iscl_monai.evaluation.benchmark.learned_from import learned_from
from iscl_monai.evaluation.benchmark.methods import BUNDLE, FUNCTION, IMAGES, Method, trainings
from iscl_monai.evaluation.benchmark.pace import Bar, Pace, Progress, Shown, no_bar
from iscl_monai.evaluation.benchmark.page import write_benchmark_page
from iscl_monai.evaluation.benchmark.physics import Physics
from iscl_monai.evaluation.benchmark.result import Benchmark, Row, provenance_of
from iscl_monai.evaluation.benchmark.table import all_tables
from iscl_monai.evaluation.benchmark.training import Training
from iscl_monai.evaluation.benchmark.virtual import virtual_pairs
from iscl_monai.evaluation.equal_noise import measure
from iscl_monai.evaluation.equal_noise.measure import VERSION
from iscl_monai.evaluation.equal_noise.slices import TestSlice, slices_of
from iscl_monai.evaluation.equal_noise.tables import tables_at
from iscl_monai.evaluation.pairs import pairs_in
from iscl_monai.evaluation.submission import DenoisedFolder, SubmittedFunction, load_submitted
from iscl_monai.evaluation.training_record import refuse_seen
from iscl_monai.inference import SliceDenoiser
from iscl_monai.inference.slice_denoiser import denoise_volume
from iscl_monai.quality.fidelity import FidelityMean
from iscl_monai.quality.protocol import Protocol

Tell = Callable[[str], object]

OURS = ("epochs", "steps_per_epoch", "seed", "dataset_dir", "datalist", "output_dir", "ckpt_dir", "resume")
"""Settings that the budget, the seeds and the folders decide."""


CHANGES = 8
"""How often a slice is denoised, about, for what a method does at equal noise."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for.

    Args:
        datalist: with ``noisy``, ``clean`` and the section to be scored.
        out: folder of everything that is made.
        budget: see :func:`iscl_monai.evaluation.benchmark.budget.steps_of`; None where nothing is trained.
        methods: of :func:`iscl_monai.evaluation.benchmark.methods.chosen`.
        seeds: each learned method is trained once with each.
        protocols: one table for each.
        bundle: the bundle whose configs train.
        configs: its configs after ``train.json``, for all methods, such as ``small.json``.
        settings: overrides for all methods; those of a method itself go before them.
        section: ``test`` or ``validation``.
        device: where learned methods denoise.
        physics: headline numbers on phantoms of a denoiser; None: not measured.
        virtual_patients: so many made-up patients are scored, too, against their truth.
        virtual_seed: that draws them; None: a new one, which a benchmark that goes on keeps.
        sweep: whether each learned method is tried with settings of its own on validation first.
    """

    datalist: Path
    out: Path
    budget: str | None
    methods: Sequence[Method]
    seeds: Sequence[int]
    protocols: Sequence[Protocol]
    bundle: Path
    configs: Sequence[str] = ()
    settings: Mapping[str, Any]
    section: str = "test"
    device: str = "auto"
    physics: Physics | None = None
    virtual_patients: int = 0
    virtual_seed: int | None = None
    sweep: bool = False

    def __post_init__(self) -> None:
        for name in self.settings:
            if name in OURS:
                raise ConfigRefusal(
                    f"--set {name}=", allowed="settings that no option of the benchmark decides", cure="leave it out"
                )

    def plan(self) -> TrainingPlan:
        """What all trainings share."""
        names = ("datalist", "out", "budget", "seeds", "bundle", "configs", "settings", "sweep")
        return TrainingPlan(**{name: getattr(self, name) for name in names})


def benchmark(request: Request, *, tell: Tell = print, bar: Bar = no_bar) -> Benchmark:
    """Train, score, measure and time every method that has not been yet.

    Args:
        request: what is asked for.
        tell: called with one line as each step begins.
        bar: of all trainings, then of the scoring of all methods.

    Returns:
        All rows, also written to ``results.json`` in ``request.out``.

    Raises:
        Refusal: whatever a training, a scan or a setting was refused for.
    """
    scans = Datalist.load(request.datalist)
    pairs = pairs_in(scans, request.section)
    if request.section == "validation":
        tell("validation pairs chose the weights of every learned method: these are not the numbers of unseen scans")
    check_submitted(request.methods, pairs, scans.split_protocol)
    learned = train_all(request.plan(), trainings(request.methods), scans, tell, bar)
    pairs = [*pairs, *virtual_pairs(request.out, request.virtual_patients, request.virtual_seed, tell=tell)]
    tell(f"reading {len(pairs)} {request.section} pairs")
    loaded = list(score.loaded(pairs))
    scored = _Scored(pairs=pairs, loaded=loaded, slices=slices_of(score.noisy_scans(loaded)))
    size = _slices_of_a_row(request, scored)
    shown = Shown(work="scoring", pace=Pace(count=len(rows_of(request))), size=size, tell=tell, bar=bar)
    rows = [
        replace(row, learned_from=learned_from(method, steps=learned.steps, datalist_digest=scans.digest))
        for method, seed in rows_of(request)
        for row in [_row(request, method, seed, learned.trainings.get((method.training, seed)), scored, shown)]
    ]
    result = Benchmark(
        rows=tuple(rows),
        steps=learned.steps,
        swept=learned.swept,
        section=request.section,
        ceilings=ceilings(loaded, request.protocols),
        truth_protocols=score.truth_protocols(loaded),
        made_with=provenance_of(
            f"{request.datalist.name}, digest {scans.digest}",
            request.budget or "nothing trained",
            request.configs,
            request.settings,
        ),
    )
    write(request.out / "results.json", result.to_json())
    write_benchmark_page(request.out / "report.html", result, request.protocols, loaded)
    _write_tables(request, result)
    return result


def rows_of(request: Request) -> list[tuple[Method, int]]:
    """Methods with their seeds, in the order of the table."""
    return [
        (method, seed)
        for method in request.methods
        for seed in (request.seeds if method.training else request.seeds[:1])
    ]


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What every row is scored on: pairs, the same pairs loaded, and the slices for equal noise."""

    pairs: Sequence[ScanPair]
    loaded: Sequence[score.LoadedPair]
    slices: Sequence[TestSlice]


def _slices_of_a_row(request: Request, scored: _Scored) -> int:
    """How many are denoised for it, about."""
    physics = 0 if request.physics is None else request.physics.slices
    return sum(len(pair.noisy_hu) for pair in scored.loaded) + CHANGES * len(scored.slices) + physics


def _write_tables(request: Request, result: Benchmark) -> None:
    """All tables in one file, to be pasted into documents."""
    at_equal_noise = [table for group, curves in result.curves().items() for table in tables_at(curves, group)]
    tables = [*all_tables(result, request.protocols), *at_equal_noise]
    written = [f"**{table.title}**\n\n{table.markdown()}" for table in tables]
    text = "\n\n".join([*written, *(f"- {note}" for note in result.notes())])
    with whole_file(request.out / "tables.md") as file:
        file.write(f"{text}\n".encode())


def check_submitted(methods: Sequence[Method], pairs: Sequence[ScanPair], split_protocol: str) -> None:
    """Before hours of training: functions are tried, folders looked through, bundles asked whom they have seen."""
    for method in methods:
        if method.kind == FUNCTION:
            load_submitted(method.name, method.source)
        elif method.kind == IMAGES:
            DenoisedFolder.find(method.source, pairs)
        elif method.kind == BUNDLE:
            refuse_seen(Path(method.source), [pair.patient for pair in pairs], split_protocol=split_protocol)


def _row(
    request: Request,
    method: Method,
    seed: int,
    training: Training | None,
    scored: _Scored,
    shown: Shown,
) -> Row:
    begun = time.monotonic()
    showing = shown.begins(method.title + (f", seed {seed}" if method.training else ""))
    if method.training and (training is None or training.weights is None):
        reason = training.stopped if training else "not trained"
        shown.tell(f"{method.title}, seed {seed}: no weights ({reason})")
        return Row(method=method, seed=seed, stopped=reason)
    with showing as progress:
        row = _measured(request, method, seed, training, scored, progress)
    shown.pace.took(time.monotonic() - begun)
    return row


def _measured(
    request: Request,
    method: Method,
    seed: int,
    training: Training | None,
    scored: _Scored,
    progress: Progress,
) -> Row:
    folder = request.out / method.name / (f"seed{seed}" if method.training else "")
    bundle = training.bundle if training else None
    denoiser = denoiser_of(method, bundle, device=request.device, pairs=scored.pairs)
    weights = _weights_digest(method, training, denoiser)
    known = {"weights": weights, "parameters": denoiser.parameters}
    row = Row(
        method=method,
        seed=seed,
        stopped=training.stopped if training else "",
        fidelity=_fidelity(folder, known, denoiser, request.protocols, scored.loaded, progress),
        repeatable=not (isinstance(denoiser, SubmittedFunction) and not denoiser.repeatable),
        training_cpu_seconds=training.cpu_seconds if training else float("nan"),
        weights=weights,
        submission=denoiser.parameters if method.submitted else {},
        pictures=folder / "pictures.npz",
    )
    if method.kind == IMAGES:  # a folder cannot denoise any but those it has
        return row
    compared = {"slices": [one.digest() for one in scored.slices], "version": VERSION}
    at_equal_noise = once(
        folder / "equal_noise.json",
        known | compared,
        lambda: measure.measured(denoiser, scored.slices, progress=lambda done: progress(CHANGES * done)),
    )
    physics, figures = request.physics, dict[str, Any]()
    if physics is not None:
        figures = once(folder / "physics.json", known | physics.identity, lambda: physics.measure(denoiser, progress))
    cost = Cost(**with_nan(once(folder / "cost.json", known, lambda: asdict(cost_of(method, bundle)))))
    return replace(row, equal_noise=at_equal_noise, physics=with_nan(figures), cost=cost)


def _fidelity(
    folder: Path,
    known: Mapping[str, Any],
    denoiser: SliceDenoiser,
    protocols: Sequence[Protocol],
    pairs: Sequence[score.LoadedPair],
    progress: Progress,
) -> dict[str, dict[str, FidelityMean]]:
    """Scores against references and truths, and pictures, made once."""
    scans = {"pairs": [[pair.patient, pair.digest()] for pair in pairs]}
    held_against = [*protocols, *score.truth_protocols(pairs)]
    measured = once(
        folder / "scores.json",
        {**known, **scans, "protocols": [protocol.identity for protocol in held_against]},
        lambda: score.to_json(score.scores(denoiser, pairs, protocols, progress=progress)),
    )
    if not (folder / "pictures.npz").is_file():
        (folder / "pictures.json").unlink(missing_ok=True)
    once(folder / "pictures.json", {**known, **scans}, lambda: _pictured(denoiser, pairs, folder / "pictures.npz"))
    return score.from_json(measured, held_against)


def _weights_digest(method: Method, training: Training | None, denoiser: SliceDenoiser) -> str:
    """SHA-256 of the weights, trained here or elsewhere; empty where nothing was trained."""
    if method.kind == BUNDLE:
        return denoiser.identity.weights_digest
    return hashlib.sha256(training.weights.read_bytes()).hexdigest() if training and training.weights else ""


def _pictured(denoiser: SliceDenoiser, pairs: Sequence[score.LoadedPair], path: Path) -> dict[str, Any]:
    """The middle slice of each patient's first scan, as whole HU, and the digest of their file."""
    first = {pair.patient: pair for pair in reversed(pairs)}
    slices = {
        name: np.rint(denoise_volume(pair.noisy_hu[len(pair.noisy_hu) // 2][None], denoiser)[0]).astype(np.int16)
        for name, pair in first.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez_compressed(file, **slices)
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
