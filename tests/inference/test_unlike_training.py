"""A scan that is unlike the training is denoised, and said to be so: outcome, report, command, and every image."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom.multiframe import Enhanced
from dicom.synthetic import Series, setting
from inference.niftis import Nifti
from pydicom.dataset import FileDataset
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.inference.anything import denoise
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import Comparison, TrainingRecord, in_short

QUIET = TrainingRecord(noise={"noise": [1.0, 10.0]}, reconstructions=[])
LOUD = TrainingRecord(noise={"noise": [1.0, 100.0]}, reconstructions=["ASiR 30"])
ITERATIVE = {"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesDescription": "Abd ASIR 50"}


def scan(folder: Path, **more: Any) -> list[Path]:
    """A series with noise of some 25 HU."""
    return Series(**{"slots": range(3), "rows": 64, "columns": 64, **more}).write(folder)


def quiet(dataset: FileDataset, index: int) -> None:
    """Noise of 5 HU instead."""
    values = 1064 + 5 * np.random.default_rng(index).standard_normal((64, 64))
    dataset.PixelData = values.astype(np.uint16).tobytes()


def descriptions(folder: Path) -> list[str]:
    """Of each derived object."""
    return [str(pydicom.dcmread(path).DerivationDescription) for path in sorted(folder.rglob("*.dcm"))]


@pytest.fixture(scope="module")
def denoiser(bundle: Path) -> Denoiser:
    return Denoiser.from_bundle(bundle, device="cpu")


@pytest.mark.parametrize("content", [None, "[1]", "no JSON", '{"noise": 3, "reconstructions": 4, "pixel_mm": 5}'])
def test_weights_without_a_record_say_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "training.json").write_text(content)
    record = TrainingRecord.of_bundle(tmp_path)
    assert record == TrainingRecord()
    loud = (40 + 80 * np.random.default_rng(1).standard_normal((64, 64))).astype(np.float32)
    assert record.compare([loud], {"pixel_mm": 9.0, "thickness_mm": 9.0}) == Comparison()
    assert in_short(()) == ""


DAMAGED = ("[1]", "[6.7]", "[null, null]", '["1", "2"]', "[true, true]", "5", "[0, 0]", "[NaN, NaN]", "[20, 1]")


@pytest.mark.parametrize("damaged", [*DAMAGED, "[1, 2, 3]", "[-1, 2]", "[1, Infinity]", f"[1, 1{'0' * 400}]", "{}"])
def test_a_damaged_range_says_nothing_and_stops_nobody(tmp_path: Path, damaged: str) -> None:
    ranges = dict.fromkeys(("noise", "fineness"), damaged)
    for name, content in (("one", {**ranges, "fineness": "[0.1, 0.2]"}), ("both", ranges)):
        noise = ", ".join(f'"{quantity}": {range_}' for quantity, range_ in content.items())
        sizes = f'"pixel_mm": {damaged}, "thickness_mm": {damaged}, "reconstructions": {damaged}'
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "models" / "training.json").write_text(f'{{"noise": {{{noise}}}, {sizes}}}')
    assert TrainingRecord.of_bundle(tmp_path / "both") in (TrainingRecord(), TrainingRecord(reconstructions=["1", "2"]))
    record = TrainingRecord.of_bundle(tmp_path / "one")
    assert record.noise == {"fineness": [0.1, 0.2]}
    assert not record.knows_noise
    loud = (40 + 80 * np.random.default_rng(1).standard_normal((64, 64))).astype(np.float32)
    compared = record.compare([loud], {"pixel_mm": 9.0, "thickness_mm": 9.0})
    assert [one.short.split(" 1.")[0] for one in compared.unlike] == ["frequency of the noise"]


@pytest.mark.parametrize(
    "content", ['{"noise": {"foo": [1, 2]}}', '{"noise": [1], "reconstructions": [null]}', "[" * 100_000]
)
def test_a_record_of_something_else_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "training.json").write_text(content)
    assert TrainingRecord.of_bundle(tmp_path) == TrainingRecord()


@pytest.mark.parametrize(
    ("known", "background_hu", "noise_hu", "words"),
    [
        (("noise", "fineness"), 1000.0, 20.0, "its noise cannot be measured, "),  # bone alone
        (("noise", "fineness"), 40.0, 0.0, "its noise cannot be measured, "),  # constant
        (("fineness",), 1000.0, 20.0, "the frequency of its noise cannot be measured, "),
        (("noise", "fineness"), 40.0, 20.0, ""),
        ((), 1000.0, 20.0, ""),
    ],
)
def test_noise_that_cannot_be_measured_is_said_to_be_so(
    known: tuple[str, ...], background_hu: float, noise_hu: float, words: str
) -> None:
    record = TrainingRecord(noise={name: [1e-9, 1e9] for name in known})
    noise = noise_hu * np.random.default_rng(1).standard_normal((64, 64))
    compared = record.compare([(background_hu + noise).astype(np.float32)], {})
    assert compared.unlike == (), "it is not said to be unlike the training"
    assert compared.unmeasured.startswith(words)
    assert bool(compared.unmeasured) == bool(words)


def test_every_image_of_a_series_says_it_and_no_image_of_another(denoiser: Denoiser, tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a", description="loud")
    scan(tmp_path / "in" / "b", description="quiet", change=quiet)
    scan(tmp_path / "in" / "c", description="refused", change=setting(RescaleSlope=None))
    outcome = denoise(tmp_path / "in", tmp_path / "out", denoiser=denoiser, training=QUIET)
    assert [title for title, _ in outcome.unlike] == ["loud"]
    assert len(outcome.refused) == 1
    folders = {name: next((tmp_path / "out").glob(f"*{name}")) for name in ("loud", "quiet")}
    said = {name: [". Unlike the training: noise 2." in one for one in descriptions(folders[name])] for name in folders}
    assert said == {"loud": [True] * 3, "quiet": [False] * 3}


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (QUIET, r"noise 2\.\d times above, iterative reconstruction \(ASiR 50\) not seen"),
        (LOUD, ""),
        (TrainingRecord(), r"iterative reconstruction \(ASiR 50\) perhaps not seen"),
        (None, ""),
    ],
)
def test_what_is_said_is_what_the_weights_know(
    training: TrainingRecord | None, expected: str, denoiser: Denoiser, tmp_path: Path
) -> None:
    scan(tmp_path / "in", slots=range(1), change=setting(**ITERATIVE))
    outcome = denoise(tmp_path / "in", tmp_path / "out", denoiser=denoiser, training=training)
    (text,) = descriptions(tmp_path / "out")
    assert re.fullmatch(expected, text.partition("Unlike the training: ")[2]), text
    assert bool(outcome.unlike) == bool(expected)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_pixels_and_slices_of_another_size_are_said_too(
    multi_frame: bool, bundle: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    content = {"noise": {}, "pixel_mm": [1.2, 1.4], "thickness_mm": [1.0, 1.5]}
    (mine / "models" / "training.json").write_text(json.dumps(content))
    if multi_frame:
        (tmp_path / "in").mkdir()
        Enhanced(rows=64, columns=64, bits=16).write(tmp_path / "in" / "enhanced.dcm")
    else:
        scan(tmp_path / "in", pixel_spacing_mm=(0.6, 0.6), spacing_mm=3.0)
    record = TrainingRecord.of_bundle(mine)
    outcome = denoise(tmp_path / "in", tmp_path / "out", denoiser=denoiser, training=record)
    pixels, slices = (sentence for _, sentence in outcome.unlike)
    assert re.search(r"^pixels of 0\.\d+ mm, \S+ times below all scans of the training \(1\.2 to 1\.4\)$", pixels)
    assert re.search(r"^slices of [23]\S* mm, \S+ times above all scans of the training \(1 to 1\.5\)$", slices)
    if not multi_frame:
        expected = "Unlike the training: pixel size 2 times below, slice thickness 2 times above"
        assert all(text.endswith(expected) for text in descriptions(tmp_path / "out"))


def test_a_multi_frame_image_and_a_volume_are_judged_too(denoiser: Denoiser, tmp_path: Path) -> None:
    Enhanced(rows=64, columns=64, bits=16).write(tmp_path / "enhanced.dcm")
    outcome = denoise(tmp_path / "enhanced.dcm", tmp_path / "out.dcm", denoiser=denoiser, training=QUIET)
    assert len(outcome.unlike) == 1
    frames = pydicom.dcmread(tmp_path / "out.dcm").PerFrameFunctionalGroupsSequence
    steps = [str(frame.DerivationImageSequence[0].DerivationDescription) for frame in frames]
    assert ["Unlike the training: noise" in step for step in steps] == [True] * 4
    values = Series(slots=range(3), rows=64, columns=64).hu().transpose(2, 1, 0)
    volume = Nifti(shape=values.shape, values=values).write(tmp_path / "scan.nii")
    large = TrainingRecord(noise={}, geometry={"pixel_mm": [2.0, 3.0], "thickness_mm": [1.0, 1.0]}, reconstructions=[])
    for training, count in ((QUIET, 1), (LOUD, 0), (large, 1)):
        outcome = denoise(volume, tmp_path / "out.nii", denoiser=denoiser, training=training)
        (tmp_path / "out.nii").unlink()
        assert [title for title, _ in outcome.unlike] == ["scan.nii"] * count


@pytest.mark.parametrize(("largest", "warned"), [(10.0, True), (100.0, False)])
def test_the_command_its_report_and_its_images_say_it(
    bundle: Path, tmp_path: Path, largest: float, warned: bool
) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    (mine / "models" / "training.json").write_text(json.dumps({"noise": {"noise": [1.0, largest]}}))
    scan(tmp_path / "in", description="Abdomen")
    options = ["--bundle", str(mine), "--device", "cpu", "--report", "--save-residual"]
    done = CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("warning: Abdomen: noise of" in done.stdout) == warned
    assert ("times above all scans of the training" in done.stdout) == warned
    assert ("Unlike what the model was trained on. Abdomen: noise of" in page) == warned
    assert [("Unlike the training: noise" in one) for one in descriptions(tmp_path / "out")] == [warned] * 6
