"""A name decides only where what it stands for cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.synthetic import Series, setting
from pydicom.dataset import FileDataset
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.dicom.headers import read_header
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.header_names import HeaderNames, body_parts_not_seen, kernels_not_seen

TRAINED = {"GE": ["SOFT", "STANDARD"], "": ["B31f"]}
NOISE = {"noise": [1.0, 100.0], "fineness": [0.01, 0.7]}
FLAT = [(40 + 20 * np.random.default_rng(1).standard_normal((128, 128))).astype(np.float32)]
TOO_LITTLE = [np.where(np.arange(128) < 12, FLAT[0], np.float32(-1000))]
LUNG = [FLAT[0] - 840]


def names(vendor: str = "GE", kernel: str = "", body_part: str = "") -> HeaderNames:
    return HeaderNames(
        kernels=frozenset([(vendor, kernel)] if kernel else []), body_parts=frozenset([body_part]) - {""}
    )


@pytest.mark.parametrize(
    ("vendor", "kernel", "words"),
    [
        ("GE", "soft", ""),
        ("GE", "BONE", "kernel BONE of GE not seen in training (seen there: B31f, SOFT, STANDARD)"),
        ("SIEMENS", "SOFT", "kernel SOFT of SIEMENS not seen in training (seen there: B31f)"),
        ("SIEMENS", "B31f", ""),  # whoever removed the manufacturer of the training's
        ("", "STANDARD", ""),
        ("", "x\ny", "kernel x y not seen"),
    ],
)
def test_a_kernel_is_looked_for_among_those_of_its_vendor(vendor: str, kernel: str, words: str) -> None:
    found = kernels_not_seen([(vendor, kernel)], TRAINED)
    assert (found is not None) == bool(words)
    if found is not None:
        assert words in found.sentence
        assert (found.short, found.short.isascii()) == ("kernel not seen", True)
    assert kernels_not_seen([(vendor, kernel)], None) is None
    assert kernels_not_seen([], TRAINED) is None


def test_a_vendor_that_was_not_there_is_said() -> None:
    found = kernels_not_seen([("TOSHIBA", "FC17")], {"GE": ["SOFT"]})
    assert found is not None
    assert found.sentence == "kernel FC17 of TOSHIBA not seen in training (none of that vendor was)"


@pytest.mark.parametrize(
    ("kernel", "slices", "noise", "unlike", "unmeasured", "note"),
    [
        ("BONE", FLAT, NOISE, [], "", "kernel BONE of GE not seen in training"),
        ("SOFT", FLAT, NOISE, [], "", ""),
        ("", FLAT, NOISE, [], "", ""),
        ("BONE", FLAT, {**NOISE, "fineness": [0.01, 0.1]}, ["frequency of the noise 3", "kernel not seen"], "", ""),
        ("BONE", FLAT, {}, ["kernel not seen"], "", ""),
        ("BONE", TOO_LITTLE, NOISE, ["kernel not seen"], "the frequency of its noise cannot", ""),
        ("SOFT", TOO_LITTLE, NOISE, [], "", "which the training has seen, vouches for it"),
        ("", TOO_LITTLE, NOISE, [], "the frequency of its noise cannot", ""),
        ("SOFT", LUNG, NOISE, [], "its noise cannot", ""),
    ],
)
def test_a_kernel_counts_where_the_fineness_does_not_settle_it(
    kernel: str, slices: Any, noise: Any, unlike: list[str], unmeasured: str, note: str
) -> None:
    record = TrainingRecord(noise=noise, kernels=TRAINED)
    compared = record.compare(slices, {}, names(kernel=kernel))
    assert [one.short[: len(words)] for one, words in zip(compared.unlike, unlike, strict=True)] == unlike
    assert compared.unmeasured.startswith(unmeasured)
    assert bool(compared.unmeasured) == bool(unmeasured)
    assert [note in one for one in compared.notes] == [True] * bool(note)


def test_a_kernel_vouches_for_nothing_where_the_weights_know_none() -> None:
    compared = TrainingRecord(noise=NOISE).compare(TOO_LITTLE, {}, names(kernel="SOFT"))
    assert compared.unmeasured
    assert compared.notes == ()


@pytest.mark.parametrize(
    ("part", "body_cm2", "unlike", "noted"),
    [
        ("CHEST", [10.0, 500.0], 0, 0),
        ("chest", [10.0, 500.0], 0, 0),
        ("HEAD", [10.0, 500.0], 0, 1),
        ("HEAD", [400.0, 500.0], 2, 0),
        ("CHEST", [400.0, 500.0], 1, 0),
        ("HEAD", None, 1, 0),
    ],
)
def test_a_body_part_counts_where_the_image_does_not_settle_it(
    part: str, body_cm2: list[float] | None, unlike: int, noted: int
) -> None:
    composition = {} if body_cm2 is None else {"body_cm2": body_cm2}
    record = TrainingRecord(composition=composition, body_parts=["CHEST"])
    compared = record.compare(FLAT, {"pixel_mm": 1.0}, names(body_part=part))
    assert (len(compared.unlike), len(compared.notes)) == (unlike, noted)
    assert ("body part HEAD" in str(compared)) == (part == "HEAD")
    assert body_parts_not_seen([part], None) is None


def test_names_are_those_of_the_headers(tmp_path: Path) -> None:
    change = setting(Manufacturer="Siemens Healthineers", ConvolutionKernel=["Br38f", "3"], BodyPartExamined="LIVER")
    files = Series(slots=range(2), change=change).write(tmp_path / "a")
    files += Series(slots=range(1), change=setting(Manufacturer="", ConvolutionKernel=None)).write(tmp_path / "b")
    found = HeaderNames.of(read_header(path) for path in files)
    assert found.kernels == {("SIEMENS", "Br38f")}
    assert found.body_parts == {"LIVER"}


@pytest.mark.parametrize("damaged", ['{"kernels": ["SOFT"]}', '{"kernels": {"GE": "SOFT"}}', '{"body_parts": {}}'])
def test_damaged_names_say_nothing(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "training.json").write_text(damaged)
    assert TrainingRecord.of_bundle(tmp_path) == TrainingRecord()


def test_the_command_notes_them_and_warns_not(bundle: Path, tmp_path: Path) -> None:
    record = bundle / "models" / "training.json"
    content = {"noise": {"noise": [1.0, 200.0], "fineness": [0.01, 0.9]}, "kernels": {"GE": ["SOFT"]}}
    mine = tmp_path / "bundle" / "models"
    mine.mkdir(parents=True)
    for path in (bundle / "models" / "model.pt", bundle / "configs"):
        (tmp_path / "bundle" / path.relative_to(bundle)).symlink_to(path)
    (mine / record.name).write_text(json.dumps(content))

    def change(dataset: FileDataset, index: int) -> None:
        setting(Manufacturer="GE MEDICAL SYSTEMS", ConvolutionKernel="BONE")(dataset, index)
        dataset.PixelData = (FLAT[0] + 1024).astype(np.uint16).tobytes()

    Series(slots=range(2), rows=128, columns=128, description="Knee", change=change).write(tmp_path / "in")
    options = ["--bundle", str(tmp_path / "bundle"), "--device", "cpu", "--report"]
    done = CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    assert "note: Knee: kernel BONE of GE not seen in training" in done.stdout
    assert "warning:" not in done.stdout
    assert "kernel BONE of GE not seen" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
