"""What a benchmark tells who waits for it, and what it would do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.data import Datalist
from iscl_monai.evaluation.benchmark import following, learned
from iscl_monai.evaluation.benchmark.dry_run import dry_run
from iscl_monai.evaluation.benchmark.following import followed, steps_in
from iscl_monai.evaluation.benchmark.methods import Method, chosen, trainings
from iscl_monai.evaluation.benchmark.pace import Pace, Progress, duration
from iscl_monai.evaluation.benchmark.run import Request, benchmark
from iscl_monai.evaluation.benchmark.training import DONE, Training
from iscl_monai.phantom import make_dataset
from iscl_monai.quality.protocol import HU_BODY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_dataset(folder, size=64, slices=2, spacing_mm=5.4, noisy=1, clean=1, validation=1, test=2)
    return folder


@pytest.fixture
def asked(datalist: Path, tmp_path: Path) -> Request:
    return Request(
        datalist=datalist,
        out=tmp_path / "out",
        budget="10steps",
        methods=chosen(["gaussian", "noise2void", "iscl", "iscl-h"]),
        seeds=[0, 1],
        protocols=[HU_BODY],
        bundle=ROOT / "bundles" / "iscl",
        configs=["small.json"],
        settings={},
        device="cpu",
    )


def test_the_last_bar_of_a_log_says_how_many_steps_were_made() -> None:
    log = b"reading\n\repoch [1/5]: [20/20] 100%|#####, g=1 [00:09<00:00]\repoch [3/5]: [7/20]  35%|##   [00:03<00:05]"
    assert steps_in(log) == 2 * 20 + 7
    assert steps_in(b"no bar yet [3/4]") == 0


def test_a_training_is_followed_by_what_it_adds_to_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)
    log, told = tmp_path / "train.log", list[int]()
    log.write_bytes(b"epoch [5/5]: [20/20] of an earlier run\n")
    with followed(log, told.append):
        for steps in (b"epoch [1/5]: [5/20]\r", b"epoch [2/5]: [1/20]\r"):
            before = len(told)
            with open(log, "ab") as file:
                file.write(steps)
            while len(told) == before:
                time.sleep(0.001)
    assert told == [5, 16]


def test_the_time_left_is_that_of_what_was_measured_here() -> None:
    pace = Pace(count=4)
    assert pace.begins() == "1 of 4"
    assert pace.left() == ""
    pace.took(0.01)  # found as it was measured before
    assert pace.begins() == "2 of 4"
    assert pace.left() == ""
    pace.took(600)
    assert pace.begins() == "3 of 4"
    assert pace.left() == "; about 20 min left at the pace so far"
    assert [duration(seconds) for seconds in (5, 90, 9000)] == ["a minute", "2 min", "2.5 h"]


def test_each_training_is_told_with_the_steps_of_all(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(method: Method, folder: Path, *, progress: Progress, **_: object) -> Training:
        progress(10)
        return Training(bundle=folder, stopped="", seconds=120, cpu_seconds=1, settings={})

    monkeypatch.setattr(learned, "trained", train)
    lines, bars = list[str](), list[tuple[str, int, int, int]]()

    @contextmanager
    def bar(work: str, total: int, done: int = 0) -> Iterator[Progress]:
        yield lambda more: bars.append((work, total, done, more))

    learned.train_all(asked.plan(), trainings(asked.methods), Datalist.load(asked.datalist), lines.append, bar)
    assert [line.split(":")[0] for line in lines] == [f"training {number} of 4" for number in (1, 2, 3, 4)]
    assert "left" not in lines[0]
    assert lines[1].endswith("about 6 min left at the pace so far")
    assert bars == [("training", 40, done, 10) for done in (0, 10, 20, 30)]


def test_the_bar_of_the_scoring_ends_where_all_is_scored(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    from iscl_monai.evaluation.benchmark import cost
    from iscl_monai.evaluation.benchmark import run as running

    monkeypatch.setattr(running, "cost_of", lambda *_: cost.Cost(parameters=1, gflop=1, seconds=1, peak_mib=1))
    lines, counted, totals = list[str](), list[int](), set[int]()

    @contextmanager
    def bar(work: str, total: int, done: int = 0) -> Iterator[Progress]:
        totals.add(total)
        assert sum(counted) == done
        yield counted.append

    filters = replace(asked, methods=chosen(["gaussian", "tv"]), budget=None)
    benchmark(filters, tell=lines.append, bar=bar)
    assert [line for line in lines if "scoring" in line] == [
        "scoring 1 of 3: Noisy input",
        "scoring 2 of 3: Gaussian filter",
        "scoring 3 of 3: Total variation",
    ]
    assert totals == {sum(counted)}


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(asked: Request) -> None:
    planned = dry_run(asked, physics="quick")
    folders = [asked.out / name / f"seed{seed}" for seed in (0, 1) for name in ("noise2void", "iscl")]
    assert planned.trainings == folders
    assert planned.lines()[0] == f"would train: {folders[0]}, 10 steps"
    assert planned.lines()[-1] == (
        "4 trainings to do, 8 rows, 2 pairs of 2 patients in test, phantoms: quick; nothing was written"
    )
    assert not asked.out.exists()
    minutes = dry_run(replace(asked, budget="20min"), physics="none")
    assert minutes.steps is None
    assert "as many steps as ISCL makes in 20min here" in minutes.lines()[0]
    (folders[1] / DONE).parent.mkdir(parents=True)
    (folders[1] / DONE).write_text("{}")
    assert dry_run(asked, physics="none").trained == [folders[1]]


def test_a_dry_run_refuses_what_a_run_would(datalist: Path, tmp_path: Path) -> None:
    command = ["benchmark", "--dataset", str(datalist), "--out", str(tmp_path / "out"), "--dry-run", "--method"]
    for more, message in (
        (["iscl"], "no --budget"),
        (["iscl", "--budget", "20"], "--budget 20"),
        (["tv", "--physics", "slow"], "--physics slow"),
    ):
        done = CliRunner().invoke(app, [*command, *more])
        assert done.exit_code == 2, done.output
        assert message in done.output
    done = CliRunner().invoke(app, [*command, "tv"])
    assert done.exit_code == 0, done.output
    assert "would score: Total variation" in done.output
    assert not (tmp_path / "out").exists()
