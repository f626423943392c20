"""The benchmark on the phantom, with the bundle's own training at its smallest."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.saved import save_nifti
from programs import Programs
from report.valid_html import check_page
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.data import Datalist
from iscl_monai.errors import ConfigRefusal, LeakRefusal, Refusal
from iscl_monai.evaluation.benchmark import budget, cost
from iscl_monai.evaluation.benchmark import run as running
from iscl_monai.evaluation.benchmark.budget import schedule, steps_of
from iscl_monai.evaluation.benchmark.learned import train_all
from iscl_monai.evaluation.benchmark.methods import METHODS, Method, chosen, submission, trainings
from iscl_monai.evaluation.benchmark.physics import Physics
from iscl_monai.evaluation.benchmark.result import Benchmark, Row
from iscl_monai.evaluation.benchmark.run import Request, benchmark
from iscl_monai.evaluation.benchmark.seeds import seeds_table
from iscl_monai.evaluation.benchmark.sweep import sweep_table
from iscl_monai.evaluation.benchmark.table import PERFECT, cost_table, fidelity_table, patients_table
from iscl_monai.evaluation.benchmark.training import Training
from iscl_monai.evaluation.scans import read_scan
from iscl_monai.evaluation.submission import named_denoiser
from iscl_monai.evaluation.submission.function import probe_slice
from iscl_monai.inference import denoise_volume
from iscl_monai.phantom import make_dataset
from iscl_monai.quality.protocol import HU_BODY, LDCT_BENCH_ABDOMEN, TRUTH_RANDOM_ANATOMY

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "width": 2,
    "extractor_layers": 3,
    "residual_blocks": 1,
    "batch_size": 2,
    "validation_slices": 1,
    "num_workers": 0,
}
NAMES = ["gaussian", "noise2void", "iscl", "iscl-h"]


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("benchmark")
    counts = {"noisy": 2, "clean": 2, "validation": 1, "test": 3}
    make_dataset(folder / "phantom", size=96, slices=2, spacing_mm=3.6, **counts)
    return Request(
        datalist=folder / "phantom",
        out=folder / "out",
        budget="5steps",
        methods=chosen(NAMES),
        seeds=[0],
        protocols=[HU_BODY, LDCT_BENCH_ABDOMEN],
        bundle=ROOT / "bundles" / "iscl",
        configs=["small.json"],
        settings=TINY,
        device="cpu",
    )


@pytest.fixture(scope="module")
def result(request_: Request, programs: Programs) -> Benchmark:
    """The first training and the first measurement of costs in an interpreter of their own, as all are for a user."""
    start, started = subprocess.run, set()

    def run(command: list[str], **options: Any) -> Any:
        if "-m" not in command:
            return start(command, **options)
        module, *words = command[command.index("-m") + 1 :]
        if module not in started:
            started.add(module)
            return start(command, **options)
        if "stdout" not in options:
            done = programs.run([module, *words])
            assert done.returncode == 0, done.stderr
            return done
        code = programs.start([module, *words], output=options["stdout"], errors=options["stdout"]).wait()
        return subprocess.CompletedProcess(command, code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        return benchmark(request_, tell=lambda _: None)


def test_the_noisy_input_stands_first_and_beside_every_method(result: Benchmark) -> None:
    assert [row.method.name for row in result.rows] == ["input", *NAMES]
    noisy = result.rows[0].fidelity[HU_BODY.identity]
    assert len(noisy) == 3
    assert all(set(row.fidelity[HU_BODY.identity]) == set(noisy) for row in result.rows)
    table = fidelity_table(result, HU_BODY)
    assert table.lines[0][0] == "Noisy input"
    assert [line[0] for line in table.lines[1:]] == [row.method.title for row in result.rows[1:]] + [PERFECT]


def test_a_filter_is_scored_as_it_denoises(result: Benchmark, request_: Request) -> None:
    """The number in the table is that of the filter applied to the test scans by hand."""
    from iscl_monai.baselines import classical
    from iscl_monai.evaluation.scans import read_scan
    from iscl_monai.inference import denoise_volume
    from iscl_monai.quality.fidelity import fidelity

    content = json.loads((request_.datalist / "datalist.json").read_text())["test"][0]
    noisy, clean = (read_scan(request_.datalist / content[key]) for key in ("noisy", "clean"))
    expected = fidelity(denoise_volume(noisy.hu, classical("gaussian")), clean.hu).mean().psnr_db
    row = result.rows[1].fidelity[HU_BODY.identity][content["patient"]]
    assert row.psnr_db == pytest.approx(expected, abs=1e-6)


def test_numbers_of_two_protocols_are_in_two_tables(result: Benchmark, request_: Request) -> None:
    one, other = (fidelity_table(result, protocol) for protocol in request_.protocols)
    assert HU_BODY.identity in one.title
    assert HU_BODY.identity not in other.title
    assert "VIF" in other.heads
    assert "VIF" not in one.heads
    in_the_file = (request_.out / "tables.md").read_text().count("PSNR gain")
    assert in_the_file == len(request_.protocols) + len(result.truth_protocols)


def test_modes_of_one_training_share_its_weights(result: Benchmark) -> None:
    by_name = {row.method.name: row for row in result.rows}
    assert by_name["iscl"].weights == by_name["iscl-h"].weights != by_name["noise2void"].weights
    assert by_name["iscl"].cost is not None
    assert by_name["iscl-h"].cost is not None
    assert by_name["iscl"].cost.parameters > by_name["iscl-h"].cost.parameters > 0
    assert math.isnan(by_name["gaussian"].cost.parameters)  # type: ignore[union-attr]
    assert len(cost_table(result).lines) == 4
    assert len(patients_table(result, HU_BODY).heads) == 4


def test_the_cost_of_a_method_is_printed_as_json(
    result: Benchmark, request_: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for arguments in (["gaussian"], ["iscl", str(request_.out / "iscl" / "seed0")]):
        cost.main(arguments)
        found[arguments[0]] = json.loads(capsys.readouterr().out)
    assert found["gaussian"]["parameters"] is found["gaussian"]["gflop"] is None
    by_name = {row.method.name: row for row in result.rows}
    assert found["iscl"]["parameters"] == by_name["iscl"].cost.parameters  # type: ignore[union-attr]
    assert found["iscl"]["gflop"] == by_name["iscl"].cost.gflop  # type: ignore[union-attr]
    assert min(one[name] for one in found.values() for name in ("seconds", "peak_mib")) > 0


def test_what_is_done_is_not_done_again(result: Benchmark, request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr("iscl_monai.evaluation.benchmark.training._run", never)
    monkeypatch.setattr(running, "cost_of", never)
    monkeypatch.setattr(running.score, "scores", never)
    monkeypatch.setattr(running.measure, "measured", never)
    again = benchmark(request_, tell=lambda _: None)
    assert json.dumps(again.to_json()["rows"]) == json.dumps(result.to_json()["rows"])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often something was scored."""
    seen: list[int] = []
    kept = running.score.scores

    def count(*arguments: object, **options: object) -> object:
        seen.append(1)
        return kept(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(running.score, "scores", count)
    return seen


@pytest.fixture
def copied(result: Benchmark, request_: Request, tmp_path: Path) -> Request:
    """A finished benchmark of its own, without learned methods."""
    shutil.copytree(request_.out, tmp_path / "out")
    return replace(request_, methods=chosen(["gaussian"]), out=tmp_path / "out")


@pytest.mark.parametrize(
    "change", [{"noisy": 1.0}, {"patient": "somebody else"}, {}], ids=["voxels", "patients", "none"]
)
def test_other_voxels_or_patients_are_scored_anew(
    copied: Request, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, loaded = counted(monkeypatch), running.score.loaded

    def changed(pairs: Sequence[object]) -> list[object]:
        first, *others = loaded(pairs)  # type: ignore[arg-type]
        if "noisy" in change:
            first = replace(first, noisy_hu=first.noisy_hu + np.float32(1))
        if "patient" in change:
            first = replace(first, patient="somebody else")
        return [first, *others]

    monkeypatch.setattr(running.score, "loaded", changed)
    again = benchmark(copied, tell=lambda _: None)
    assert len(seen) == (2 if change else 0)
    assert ("somebody else" in again.rows[0].fidelity[HU_BODY.identity]) == ("patient" in change)


def test_what_was_damaged_or_lost_is_made_again(copied: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    (copied.out / "gaussian" / "scores.json").write_text('{"of": ')
    (copied.out / "gaussian" / "pictures.npz").unlink()
    benchmark(copied, tell=lambda _: None)
    assert len(seen) == 1
    assert (copied.out / "gaussian" / "pictures.npz").is_file()


def test_numbers_of_other_test_objects_are_not_taken_for_these(copied: Request) -> None:
    small, large = (Physics(identity={"phantom": n}, measure=lambda *_, n=n: {"noise": n}) for n in (1.0, 2.0))
    found = [benchmark(replace(copied, physics=one), tell=lambda _: None).rows[0].physics for one in (small, large)]
    assert found == [{"noise": 1.0}, {"noise": 2.0}]


def test_validation_pairs_are_said_to_have_chosen(copied: Request) -> None:
    lines: list[str] = []
    benchmark(replace(copied, section="validation"), tell=lines.append)
    assert "chose the weights" in lines[0]
    assert "chose the weights" in (copied.out / "report.html").read_text()


@pytest.fixture
def submissions(copied: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A function in a file of its own, and its results as a folder, beside the Gaussian filter."""
    file = tmp_path / "my_method.py"
    file.write_text(
        "from scipy import ndimage\n\n\ndef denoise(image):\n    return ndimage.gaussian_filter(image, 0.8)\n"
    )
    for pair in Datalist.load(copied.datalist).test:
        scan = read_scan(pair.noisy)
        denoised = denoise_volume(scan.hu, named_denoiser(f"{file}:denoise"))
        save_nifti(tmp_path / "theirs" / f"{pair.patient}.nii.gz", scan, denoised)
    monkeypatch.setattr(running, "cost_of", lambda *_: cost.Cost(parameters=math.nan, gflop=1, seconds=1, peak_mib=1))
    added = [submission(f"mine={file}:denoise"), submission(f"theirs={tmp_path / 'theirs'}")]
    physics = Physics(
        identity={}, measure=lambda denoiser, _: {"noise": float(denoiser.change_hu(probe_slice(9)).std())}
    )
    return replace(copied, methods=chosen(["gaussian"], added), budget=None, physics=physics)


def test_methods_of_others_are_rows_with_intervals(submissions: Request) -> None:
    result = benchmark(submissions, tell=lambda _: None)
    assert [row.method.name for row in result.rows] == ["input", "gaussian", "mine", "theirs"]
    mine, theirs = result.rows[2:]
    for patient, mean in mine.fidelity[HU_BODY.identity].items():
        assert theirs.fidelity[HU_BODY.identity][patient].psnr_db == pytest.approx(mean.psnr_db, abs=1e-3)
    lines = {line[0]: line for line in fidelity_table(result, HU_BODY).lines}
    assert lines["mine"][1] == "a function"
    assert lines["theirs"][1] == "denoised images"
    assert re.fullmatch(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)", lines["theirs"][2])
    assert mine.submission["code"] == "my_method.py:denoise"
    content = json.loads((submissions.out / "results.json").read_text())
    assert content["rows"][0]["submission"] is None
    assert content["rows"][2]["submission"]["sha256"] == mine.submission["sha256"]
    # A folder has no figures that need new images, and the report says why.
    assert set(mine.physics) == {"noise"}
    assert not theirs.physics
    assert theirs.cost is None
    assert cost_table(result).lines[-1] == ["theirs", *["\N{EN DASH}"] * 5]
    for text in ((submissions.out / "report.html").read_text(), (submissions.out / "tables.md").read_text()):
        assert "theirs: denoised scans, not a method" in text
        assert "mine, theirs: submitted methods; nothing says which patients they have seen" in text


def test_a_changed_submission_is_measured_anew_and_an_unchanged_one_is_not(
    submissions: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = benchmark(submissions, tell=lambda _: None)
    seen = counted(monkeypatch)
    benchmark(submissions, tell=lambda _: None)
    assert not seen
    file = Path(submissions.methods[-2].source.rpartition(":")[0])
    file.write_text(file.read_text().replace("0.8", "1.4"))
    pair = Datalist.load(submissions.datalist).test[0]
    scan = read_scan(pair.noisy)
    save_nifti(file.parent / "theirs" / f"{pair.patient}.nii.gz", scan, scan.hu)
    again = benchmark(submissions, tell=lambda _: None)
    assert len(seen) == 2
    for before, after in zip(first.rows[2:], again.rows[2:], strict=True):
        assert before.submission["sha256"] != after.submission["sha256"]
        assert before.fidelity != after.fidelity


def test_a_bad_submission_is_refused_before_anything_is_trained(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("iscl_monai.evaluation.benchmark.learned.trained", never)
    (tmp_path / "theirs").mkdir()
    file = tmp_path / "my_method.py"
    file.write_text("def denoise(image):\n    return image / 1000\n")
    for source, message in ((f"{file}:denoise", "changes by"), (str(tmp_path / "theirs"), "no denoised scan of")):
        added = [submission(f"mine={source}")]
        with pytest.raises(Refusal, match=message):
            benchmark(replace(request_, methods=chosen(["iscl"], added), out=tmp_path / "out"), tell=lambda _: None)


def test_a_trained_bundle_is_a_row_unless_it_has_seen_a_patient(
    copied: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "cost_of", lambda *_: cost.Cost(parameters=1, gflop=1, seconds=1, peak_mib=1))
    bundle = copied.out / "iscl" / "seed0"
    mine = replace(copied, methods=chosen(["iscl"], [submission(f"mine={bundle}")]))
    iscl, row = benchmark(mine, tell=lambda _: None).rows[1:]
    assert row.method.kind == "a trained bundle"
    assert "of this datalist" in row.learned_from
    assert row.fidelity == iscl.fidelity
    assert row.weights == iscl.weights
    assert "mine: weights trained elsewhere, which name no scored patient" in (mine.out / "tables.md").read_text()
    record = json.loads((bundle / "models" / "training.json").read_text())
    record["patients"].append(Datalist.load(mine.datalist).test[0].patient)
    (bundle / "models" / "training.json").write_text(json.dumps(record))
    with pytest.raises(LeakRefusal, match="have seen"):
        benchmark(mine, tell=lambda _: None)


def test_the_cost_of_a_function_is_measured_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my_method.py"
    file.write_text("def denoise(image):\n    return image\n")
    cost.main([f"mine={file}:denoise"])
    assert json.loads(capsys.readouterr().out)["parameters"] is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["mine"], "--add mine"),
        (["../mine=x.py:f"], "letters, digits"),
        (["iscl=x.py:f"], "--add iscl=; allowed: none of"),
        (["mine=no/such/folder"], "no folder and no function"),
        (["mine=x.py:f", "mine=y.py:f"], "--add mine= twice"),
    ],
)
def test_names_of_submissions(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigRefusal, match=message):
        chosen(None, [submission(text) for text in texts])


def test_learned_methods_need_a_budget_and_others_none(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="no --budget for iscl"):
        benchmark(replace(request_, methods=chosen(["iscl"]), budget=None, out=tmp_path), tell=lambda _: None)


@pytest.mark.parametrize("name", ["epochs", "seed", "dataset_dir"])
def test_what_the_benchmark_decides_cannot_be_set(request_: Request, name: str) -> None:
    with pytest.raises(ConfigRefusal, match=f"--set {name}="):
        replace(request_, settings={name: 1})


def test_weights_of_other_scans_are_refused(result: Benchmark, request_: Request) -> None:
    scan = Datalist.load(request_.datalist).clean[1].image
    file = next(path for path in sorted(scan.rglob("*")) if path.is_file())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        ConfigRefusal, match=rf"with other scans: clean scan {scan.relative_to(request_.datalist)}: image"
    ):
        benchmark(request_, tell=lambda _: None)
    file.write_bytes(content)
    benchmark(request_, tell=lambda _: None)


def test_another_budget_or_setting_in_the_same_folder_is_refused(result: Benchmark, request_: Request) -> None:
    with pytest.raises(ConfigRefusal, match="which was begun with 5steps"):
        benchmark(replace(request_, budget="10steps"), tell=lambda _: None)
    with pytest.raises(ConfigRefusal, match=r"holds a training of \w+ with width=2, not 3"):
        benchmark(replace(request_, settings={**TINY, "width": 3}), tell=lambda _: None)


def test_the_report_shows_every_method_and_needs_no_network(result: Benchmark, request_: Request) -> None:
    page = (request_.out / "report.html").read_text()
    check_page(page, scripts=1)
    for row in result.rows:
        assert row.method.title in page
    content = json.loads((request_.out / "results.json").read_text())
    for kept in content["rows"]:  # what results.json says stands on the page
        for patients in kept["fidelity"].values():
            assert f">{np.mean([one['psnr_db'] for one in patients.values()]):.2f}<" in page
    assert page.count("<img") == 3 * (6 + 5)  # per patient: every method with the reference, and the errors
    assert "http://" not in page
    assert "https://" not in page
    assert "not for primary diagnosis" in page


def test_a_budget_is_steps_or_minutes() -> None:
    assert steps_of("503steps", [], {}) == 500
    assert schedule(500, 120) == {"epochs": 5, "steps_per_epoch": 100, "warm_up_steps": 120}
    assert schedule(500, 400)["warm_up_steps"] == 200
    assert schedule(8000, 400)["warm_up_steps"] == 400
    for wrong in ("20", "steps", "-5min", "4steps"):
        with pytest.raises(ConfigRefusal, match="--budget"):
            steps_of(wrong, [], {})


def test_minutes_become_steps_by_the_speed_of_iscl(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [str(request_.bundle / "configs" / name) for name in ("train.json", "small.json")]
    settings = {**TINY, "dataset_dir": str(request_.datalist)}
    assert budget.seconds_per_step(configs, settings) > 0
    monkeypatch.setattr(budget, "seconds_per_step", lambda *_: 0.25)
    assert budget.steps_of("2min", configs, settings) == 430  # nine tenths of 120 s, a multiple of 5


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigRefusal, match="did you mean 'cyclegan'"):
        chosen(["cycle-gan"])


def test_every_learned_row_has_a_training_and_every_config_exists() -> None:
    assert {method.training for method in METHODS if method.training} == {one.name for one in trainings(METHODS)}
    for method in METHODS:
        for config in method.configs:
            assert (ROOT / "bundles" / "iscl" / "configs" / config).is_file()


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    command = ["benchmark", "--dataset", str(tmp_path), "--out", str(tmp_path / "out"), "--budget", "5steps"]
    done = CliRunner().invoke(app, [*command, "--method", "tvv"])
    assert done.exit_code == 2
    assert "did you mean 'tv'" in done.output


# --- sweeps and seeds ---------------------------------------------------------------------------------


def test_every_swept_method_is_tried_as_often_as_any_other() -> None:
    """So that the whole budget is the same for all; only the authors' own settings stay as they are."""
    learned = trainings(METHODS)
    assert {len(method.sweep) for method in learned if method.name != "iscl-paper"} == {4}
    for method in learned:
        assert len({candidate.folder for candidate in method.sweep}) == len(method.sweep)
        assert not method.sweep or method.sweep[0].name == "as configured"


def test_the_candidate_with_the_best_validation_trains_every_seed(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, float, float, int]] = []

    def train(method: Method, folder: Path, *, settings: Any, **_: Any) -> Training:
        rate, weight = settings.get("learning_rate", 0.002), settings.get("nested_weight", 100.0)
        calls.append((folder.name, settings["seed"], rate, weight, settings["steps_per_epoch"]))
        models = folder / "models"
        models.mkdir(parents=True)
        # The more lambda counts the better; the best epoch is not the last.
        history = [{"epoch": 1, "psnr_db": 30 + weight / 100}, {"epoch": 2, "psnr_db": 20}, {"epoch": 3}]
        (models / "validation.json").write_text(json.dumps({"history": history}))
        return Training(bundle=folder, stopped="", seconds=1, cpu_seconds=1, settings=settings)

    monkeypatch.setattr("iscl_monai.evaluation.benchmark.learned.trained", train)
    request = replace(request_, seeds=[0, 1], sweep=True, out=tmp_path, budget="10steps")
    done = train_all(request.plan(), trainings(chosen(["iscl"])), Datalist.load(request.datalist), lambda _: None)
    assert calls == [
        ("sweep-as-configured", 0, 0.002, 100, 2),
        ("sweep-rate-x0.3", 0, 0.0006, 100, 2),
        ("sweep-lambda-x0.3", 0, 0.002, 30, 2),
        ("sweep-lambda-x3", 0, 0.002, 300, 2),
        ("seed1", 1, 0.002, 300, 2),
    ]
    assert done.trainings["iscl", 0].bundle == tmp_path / "iscl" / "sweep-lambda-x3"
    table = sweep_table(done.swept)
    assert table is not None
    assert "optimistic" in table.title
    assert table.lines == [
        [
            "ISCL",
            "lambda x3 (nested_weight 300)",
            "as configured: 31.00",
            "rate x0.3: 31.00",
            "lambda x0.3: 30.30",
            "lambda x3: 33.00",
        ]
    ]


def test_a_sweep_needs_validation_pairs(request_: Request, tmp_path: Path) -> None:
    plan = replace(request_, sweep=True, out=tmp_path).plan()
    scans = replace(Datalist.load(request_.datalist), validation=())
    with pytest.raises(ConfigRefusal, match="--sweep without validation pairs"):
        train_all(plan, trainings(chosen(["iscl"])), scans, lambda _: None)


def test_validation_figures_are_kept_beside_the_weights_and_called_optimistic(
    result: Benchmark, request_: Request
) -> None:
    content = json.loads((request_.out / "iscl" / "seed0" / "models" / "validation.json").read_text())
    assert [entry["epoch"] for entry in content["history"]] == [1, 2, 3, 4, 5]
    assert content["note"].startswith("optimistic")


def test_seeds_have_a_row_of_their_own_with_their_range(result: Benchmark) -> None:
    noisy, _, _, row, _ = result.rows

    def seed(number: int, gain_db: float) -> Row:
        fidelity = {
            identity: {
                name: replace(mean, psnr_db=mean.psnr_db + gain_db + 0.1 * index)
                for index, (name, mean) in enumerate(patients.items())
            }
            for identity, patients in noisy.fidelity.items()
        }
        return replace(row, seed=number, fidelity=fidelity)

    assert seeds_table(result, HU_BODY) is None
    rows = [noisy, seed(0, 1.0), seed(1, 1.6), replace(row, seed=2, fidelity={})]
    table = seeds_table(replace(result, rows=rows), HU_BODY)
    assert table is not None
    # Gains of the patients, over seeds: 1.3, 1.4, 1.5; t(0.975, 2) = 4.303.
    assert table.lines[0][:5] == ["ISCL", "2 of 3", "+1.40 (+1.15 to +1.65)", "+1.10", "+1.70"]


def test_errors_against_truths_have_a_protocol_of_their_own(result: Benchmark) -> None:
    """The phantom's truth is known: a table of its own, without a ceiling, and the error against it."""
    assert result.truth_protocols == [TRUTH_RANDOM_ANATOMY]
    table = fidelity_table(result, TRUTH_RANDOM_ANATOMY)
    assert "excess RMSE, HU" not in table.heads
    assert PERFECT not in [line[0] for line in table.lines]
    against_reference = fidelity_table(result, HU_BODY)
    assert against_reference.lines[-1][0] == PERFECT
    noisy = [row.fidelity[protocol.identity] for row in result.rows[:1] for protocol in (HU_BODY, TRUTH_RANDOM_ANATOMY)]
    assert noisy[0] != noisy[1]


def test_methods_are_compared_at_equal_noise_on_the_page_and_in_the_files(result: Benchmark, request_: Request) -> None:
    page = (request_.out / "report.html").read_text()
    assert f"Methods at equal noise, {TRUTH_RANDOM_ANATOMY.name}" in page
    assert "At 30 % less noise" in (request_.out / "tables.md").read_text()
    content = json.loads((request_.out / "results.json").read_text())["equal_noise"]
    curves = content[TRUTH_RANDOM_ANATOMY.name]["Gaussian filter"]["curves"]
    assert len(curves["noise reduction"]) == len(content[TRUTH_RANDOM_ANATOMY.name]["Gaussian filter"]["strength"])
    assert curves["error"][0] is not None
