"""Folds: every method on the test, its strength from the validation, and no bundle that may have seen the test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from inference.tiny import make_bundle
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.data import Datalist
from iscl_monai.domain import MICROGRAPH
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal
from iscl_monai.evaluation.folds import leak_of, means, score_folds

ROLES = {"noisy": [0], "clean": [100], "validation": [200], "test": [300, 301]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two folds of one stack with shading: validation and test are shaded by different amounts."""
    rng = np.random.default_rng(0)
    for folder in ("clean", "noisy"):
        (tmp_path / folder).mkdir()
    shade = np.linspace(0.6, 1.4, 64)
    for number in (number for numbers in ROLES.values() for number in numbers):
        clean = (120 + 20 * rng.standard_normal((64, 64))).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(tmp_path / "clean" / f"z{number:03}.tif", clean)
        tifffile.imwrite(tmp_path / "noisy" / f"z{number:03}.tif", (clean * shade).clip(0, 255).astype(np.uint8))
    for fold, roles in (("fold1", ROLES), ("fold2", {**ROLES, "noisy": [100], "clean": [0]})):
        content: dict[str, object] = {"number_nm": 10, "least_gap_nm": 480}
        for name, numbers in roles.items():
            pair = (
                {"noisy": "../noisy", "clean": "../clean"}
                if name in ("validation", "test")
                else {"image": f"../{name}"}
            )
            content[name] = [{**pair, "patient": "fly", "sections": numbers}]
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "datalist.json").write_text(json.dumps(content))
    return tmp_path


def bundle_for(folder: Path, fold: Path) -> Path:
    """An untrained bundle that says it was trained on a fold."""
    made = make_bundle(folder, domain="micrograph")
    record = {"patients": ["fly"], "datalist_digest": Datalist.load(fold, MICROGRAPH).digest}
    (made / "models" / "training.json").write_text(json.dumps(record))
    return made


def test_methods_over_folds(data: Path) -> None:
    scores = score_folds([data / "fold1", data / "fold2"], domain=MICROGRAPH, yardsticks=["flatten"])
    assert [(one.fold, one.method, one.images) for one in scores] == [
        ("fold1", "input", 2),
        ("fold1", "flatten", 2),
        ("fold2", "input", 2),
        ("fold2", "flatten", 2),
    ]
    before, flattened = means(scores)
    noisy, clean = (
        [tifffile.imread(data / folder / f"z{number}.tif").astype(float) for number in (300, 301)]
        for folder in ("noisy", "clean")
    )
    by_hand = [10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in zip(noisy, clean, strict=True)]
    assert before.psnr_db == pytest.approx(np.mean(by_hand))
    assert (before.gain_db, before.folds) == (0, 2)
    assert flattened.gain_db > 3
    assert flattened.gain_db == pytest.approx(flattened.psnr_db - before.psnr_db)


def test_a_bundle_is_measured_on_its_own_fold_alone(data: Path) -> None:
    own = bundle_for(data / "own", data / "fold1")
    scores = score_folds([data / "fold1"], domain=MICROGRAPH, bundles={"iscl": str(own)}, device="cpu")
    assert scores[1].method == "iscl"
    assert scores[1].psnr_db != scores[0].psnr_db
    with pytest.raises(LeakRefusal, match=r"allowed: weights trained on this fold"):
        score_folds([data / "fold2"], domain=MICROGRAPH, bundles={"iscl": str(own)}, device="cpu")


def test_a_pair_of_two_sizes_is_refused(data: Path) -> None:
    """More clean sections than noisy ones: the first would be compared, whatever they show."""
    for folder, numbers in (("noisy", (300, 301)), ("clean", (200, 300, 301))):
        (data / f"few_{folder}").mkdir()
        for number in numbers:
            shutil.copy(data / folder / f"z{number}.tif", data / f"few_{folder}")
    path = data / "fold1" / "datalist.json"
    content = json.loads(path.read_text())
    content["test"] = [{"noisy": "../few_noisy", "clean": "../few_clean", "patient": "yeast"}]
    path.write_text(json.dumps(content))
    with pytest.raises(DatalistRefusal, match=r"few_noisy is \(64, 64, 2\), .*few_clean is \(64, 64, 3\)"):
        score_folds([data / "fold1"], domain=MICROGRAPH)


def test_the_command(data: Path) -> None:
    bundle_for(data / "b_fold1", data / "fold1")
    words = ["folds", data, "--modality", "micrograph", "--methods", "level", "--out", data / "out.json"]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.stderr
    assert "| level | 2 |" in done.stdout
    assert "2/2 methods" in done.stderr
    assert "grey8-frame:" in done.stdout
    content = json.loads((data / "out.json").read_text())
    assert content["unit"] == "grey levels"
    assert len(content["scores"]) == 4


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--modality", "ct"], "use iscl-monai benchmark"),
        (["--modality", "micrograph", "--methods", "magic"], "method 'magic'"),
        (["--modality", "micrograph", "--bundle", "runs"], "--bundle runs; allowed: NAME=DIR"),
    ],
)
def test_refused_arguments(data: Path, words: list[str], refusal: str) -> None:
    done = CliRunner().invoke(app, ["folds", str(data), *words])
    assert done.exit_code == 2
    assert refusal in done.stderr


def test_without_a_test_there_is_nothing_to_measure(data: Path) -> None:
    path = data / "fold1" / "datalist.json"
    content = json.loads(path.read_text())
    del content["test"]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigRefusal, match="without validation or test"):
        score_folds([data / "fold1"], domain=MICROGRAPH)


def test_folds_whose_roles_are_neighbours_say_so(data: Path) -> None:
    assert leak_of([data / "fold1"], MICROGRAPH) == ""
    path = data / "fold1" / "datalist.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "least_gap_nm": 80}))
    done = CliRunner().invoke(app, ["folds", str(data), "--modality", "micrograph", "--methods", "none"])
    assert done.exit_code == 0
    assert "LEAK: roles of fold1 are 80 nm apart" in done.stdout
