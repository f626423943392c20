"""A scan whose noise the weights have not seen is denoised, and said to be unlike the training wherever one looks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom.synthetic import Series
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.inference.familiarity import FamiliarityWatcher, training_noise
from iscl_monai.inference.stream import DenoisedSlice


def slices(sigma_hu: float, count: int) -> list[DenoisedSlice]:
    noise = np.random.default_rng(1).standard_normal((count, 64, 64))
    images = (40 + sigma_hu * noise).astype(np.float32)
    return [DenoisedSlice(index, image, image, None) for index, image in enumerate(images)]


def watch(familiarity: FamiliarityWatcher, title: str, sigma_hu: float, *, refused: bool = False) -> None:
    familiarity.begins(title, 3)
    for one in slices(sigma_hu, 3):
        familiarity.slice_written(one)
    if refused:
        familiarity.gave_up()


def test_each_series_is_judged_by_itself_and_a_refused_one_not_at_all() -> None:
    familiarity = FamiliarityWatcher({"noise": [8.0, 30.0]})
    watch(familiarity, "loud", 80)
    watch(familiarity, "as in the training", 20)
    watch(familiarity, "refused", 90, refused=True)
    watch(familiarity, "quiet", 2)
    familiarity.ends(Path(), None)  # type: ignore[arg-type]
    assert [title for title, _ in familiarity.warnings] == ["loud", "quiet"]


def test_weights_without_a_record_know_nothing(tmp_path: Path) -> None:
    assert training_noise(tmp_path) is None
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "training.json").write_text("[1]")
    assert training_noise(tmp_path) is None
    watch(unknowing := FamiliarityWatcher(None), "any", 80)
    unknowing.ends(Path(), None)  # type: ignore[arg-type]
    assert unknowing.warnings == []


@pytest.mark.parametrize(("largest", "warned"), [(10.0, True), (100.0, False)])
def test_the_command_and_its_report_say_it(bundle: Path, tmp_path: Path, largest: float, warned: bool) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    (mine / "models" / "training.json").write_text(json.dumps({"noise": {"noise": [1.0, largest]}}))
    paths = Series(slots=range(2), rows=64, columns=64).write(tmp_path / "in")
    for seed, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        noise = np.random.default_rng(seed).standard_normal((64, 64))
        values = (40 + 40 * noise - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
        dataset.PixelData = values.astype(dataset.pixel_array.dtype).tobytes()
        dataset.save_as(path)
    options = ["--bundle", str(mine), "--device", "cpu", "--report"]
    done = CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("times above all scans of the training" in done.stdout) == warned
    assert ("Unlike what the model was trained on" in page) == warned
