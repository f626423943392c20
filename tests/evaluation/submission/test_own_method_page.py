"""docs/how-to/own-method.md, done as it says."""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.saved import save_nifti
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.data import Datalist
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark import run as running
from iscl_monai.evaluation.benchmark.cost import Cost
from iscl_monai.evaluation.scans import read_scan
from iscl_monai.evaluation.submission import named_denoiser
from iscl_monai.inference import denoise_volume
from iscl_monai.phantom import make_dataset

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "own-method.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^iscl-monai (.*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``D``, the file of the page, and what it made of ``D`` as ``theirs``."""
    folder = tmp_path_factory.mktemp("own_method")
    make_dataset(folder / "D", size=64, slices=1, spacing_mm=5.4, noisy=1, clean=1, validation=1, test=3)
    example = re.findall(r"^```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)[0]
    (folder / "my_method.py").write_text(example, encoding="utf-8")
    denoiser = named_denoiser(f"{folder / 'my_method.py'}:denoise")
    for pair in Datalist.load(folder / "D").test:
        scan = read_scan(pair.noisy)
        save_nifti(folder / "theirs" / f"{pair.patient}.nii.gz", scan, denoise_volume(scan.hu, denoiser))
    return folder


def run(command: str, *more: str) -> None:
    done = CliRunner().invoke(app, [*shlex.split(command), *more])
    assert done.exit_code == 0, done.output


def test_a_method_in_ten_lines_is_benchmarked_by_one_command(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len((workplace / "my_method.py").read_text(encoding="utf-8").splitlines()) <= 10
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(running, "cost_of", lambda *_: Cost(parameters=math.nan, gflop=math.nan, seconds=1, peak_mib=1))
    benchmarks = [command for command in COMMANDS if command.startswith("benchmark")]
    assert len(benchmarks) == 2
    for command in benchmarks:
        run(command, "--physics", "none")  # test objects take minutes
        content = json.loads((workplace / "runs/mine/results.json").read_text(encoding="utf-8"))
        rows = {row["method"]: row for row in content["rows"]}
        name = next(name for name in ("mine", "theirs") if name in rows)
        assert list(rows) == ["input", "nlm", "tv", name]
        assert f"| {name} |" in (workplace / "runs/mine/tables.md").read_text(encoding="utf-8")


def test_its_scores_are_those_of_its_results(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    found: list[Any] = []
    for command in COMMANDS:
        if command.startswith("evaluate"):
            run(command)
            out = shlex.split(command)[-1]
            content = json.loads((workplace / out / "metrics.json").read_text(encoding="utf-8"))
            found.append([one["denoised"]["rmse_hu"] for one in content["patients"].values()])
    assert len(found) == 2
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_the_quality_check_takes_it(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the measurement, which takes minutes."""
    seen: list[Any] = []

    def check(out: Path, denoiser: Any, *_: object, **__: object) -> None:
        seen.append(denoiser)
        raise ConfigRefusal("enough", allowed="", cure="")

    monkeypatch.chdir(workplace)
    monkeypatch.setattr(importlib.import_module("iscl_monai.evaluation.qa"), "check", check)
    (command,) = [command for command in COMMANDS if command.startswith("qa")]
    CliRunner().invoke(app, shlex.split(command))
    assert seen[0].parameters["code"] == "my_method.py:denoise"
