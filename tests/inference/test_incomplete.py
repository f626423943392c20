"""Folders that hide a slice, change meanwhile, or are made to do harm: refused, never denoised without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom.synthetic import SCOUT, Change, Series, only, setting
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import CheckpointRefusal, ConfigRefusal, DicomRefusal
from iscl_monai.inference import classic
from iscl_monai.inference import plan as plans
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.devices import device_of
from iscl_monai.inference.plan import plan
from iscl_monai.inference.series import denoise_series
from iscl_monai.inference.slice_denoiser import ModelIdentity

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
REPORT = "1.2.840.10008.5.1.4.1.1.88.22"


def scan(folder: Path, change: Change | None = None, **kind: Any) -> Path:
    Series(rows=20, columns=18, change=change, **kind).write(folder)
    return folder


@pytest.mark.parametrize(
    "odd",
    [
        {"Modality": "PT"},
        {"NumberOfFrames": 2, "PixelData": bytes(2 * 20 * 18 * 2)},
        {"SOPClassUID": "1.2.840.10008.1.2.5"},  # a transfer syntax
        {"SOPClassUID": "1.2.3.4"},
    ],
)
def test_a_ct_image_that_says_it_is_something_else_is_not_passed_over(tmp_path: Path, odd: dict[str, Any]) -> None:
    source = scan(tmp_path / "in", only(2, setting(**odd)))
    with pytest.raises(DicomRefusal, match="may be incomplete"):
        plan(source)


def test_a_class_that_is_no_uid_is_damage_whatever_series_it_names(tmp_path: Path) -> None:
    path = sorted(scan(tmp_path / "in").iterdir())[2]
    content = path.read_bytes()
    spoilt = content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"-inf.840.10008.5.1.4.1.1.2")
    path.write_bytes(spoilt.replace(b"1.2.826.0.1.3680043.8.498", b"1.2.826.0.1.3680043.8.499"))
    with pytest.raises(DicomRefusal, match="no UID"):
        plan(tmp_path / "in", strict=True)
    with pytest.raises(DicomRefusal):
        plan(tmp_path / "in")


@pytest.mark.parametrize("odd", [{"SOPClassUID": SECONDARY_CAPTURE}, {"SOPClassUID": REPORT, "Modality": "SR"}])
def test_another_object_of_the_series_is_set_aside_and_said(tmp_path: Path, odd: dict[str, Any]) -> None:
    source = scan(tmp_path / "in", only(2, setting(**odd)))
    decided = plan(source)
    assert decided.series[0].count == 4
    assert [one.path.name for one in decided.skipped] == ["slice002"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("flavour", ["OTHER", "MPR", "Axial", "HELIX"])
def test_an_odd_image_type_loses_no_slice(tmp_path: Path, flavour: str) -> None:
    source = scan(tmp_path / "in", only(2, setting(ImageType=["ORIGINAL", "PRIMARY", flavour])))
    assert plan(source).series[0].count == 5


def test_a_scout_of_the_series_is_passed_over(tmp_path: Path) -> None:
    source = scan(tmp_path / "in", only(2, setting(**SCOUT)))
    assert plan(source).series[0].count == 4


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("tilt", [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0.9, -0.436]])
def test_a_slice_that_calls_itself_a_scout_is_not_passed_over(tmp_path: Path, place: int, tilt: list[float]) -> None:
    """A scout shows the patient from a side; what lies across him may be a slice whose header is damaged."""
    scout = setting(**{**SCOUT, "ImageOrientationPatient": tilt})
    source = scan(tmp_path / "in", only(place, scout))
    for read in (plan, read_series):
        with pytest.raises(DicomRefusal, match="localizer"):
            read(source)


def test_folders_behind_links_are_searched_once(tmp_path: Path) -> None:
    source = scan(tmp_path / "in")
    hidden = tmp_path / "elsewhere"
    hidden.mkdir()
    for path in sorted(source.iterdir())[3:]:
        path.rename(hidden / path.name)
    (source / "more").symlink_to(hidden)
    (hidden / "back").symlink_to(source)
    assert plan(source).series[0].count == 5


def test_a_folder_that_cannot_be_opened_may_hide_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = scan(tmp_path / "in")
    closed = tmp_path / "in" / "closed"
    closed.mkdir()
    opened = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == closed:  # the superuser, who may run this, can open everything
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [one.path for one in find_series(source).skipped if one.damaged] == [closed]
    with pytest.raises(DicomRefusal, match="cannot be opened"):
        plan(source)
    with pytest.raises(DicomRefusal):
        plan(source, strict=False)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    source = scan(tmp_path / "in")
    os.mkfifo(source / "pipe")
    assert [one.reason for one in plan(source).skipped] == ["not a regular file"]


@pytest.mark.parametrize(("reader", "slots"), [(plans, range(5)), (classic, range(12))], ids=["planned", "denoised"])
def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch, reader: Any, slots: range
) -> None:
    source = scan(tmp_path / "in", slots=slots)
    first, second = sorted(source.iterdir())[1:3]
    load = reader.read_content

    def swapped(header: Any) -> Any:
        if not (tmp_path / "swapped").exists():
            for one, other in ((first, tmp_path / "swapped"), (second, first), (tmp_path / "swapped", second)):
                one.rename(other)
            (tmp_path / "swapped").touch()
        return load(header)

    monkeypatch.setattr(reader, "read_content", swapped)
    with pytest.raises(DicomRefusal, match="another one than when the folder was searched"):
        denoise_series(source, tmp_path / "out", denoiser=denoiser)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("depth", [17, 60])
def test_sequences_without_end_are_refused(tmp_path: Path, denoiser: Denoiser, depth: int) -> None:
    nested = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ContentSequence = [nested]
        nested = outer
    source = scan(tmp_path / "in", only(2, setting(ContentSequence=[nested])))
    with pytest.raises(DicomRefusal, match="nested more than 16 times"):
        denoise_series(source, tmp_path / "out", denoiser=denoiser)


@pytest.mark.parametrize("slope", [1e-30, 1e39, -1e-5])
def test_a_slope_without_meaning_is_refused(tmp_path: Path, slope: float) -> None:
    with pytest.raises(DicomRefusal, match="RescaleSlope"):
        plan(scan(tmp_path / "in", slopes=[slope] * 5))


def test_what_is_kept_takes_part_in_the_uid(tmp_path: Path, denoiser: Denoiser) -> None:
    source = scan(tmp_path / "in")
    for name, kept in (("one", ()), ("other", ("CREATOR",)), ("again", ())):
        denoise_series(source, tmp_path / name, denoiser=denoiser, keep_private=kept)
    one, other, again = (
        pydicom.dcmread(tmp_path / name / "00001.dcm").SOPInstanceUID for name in ("one", "other", "again")
    )
    assert one == again != other


@pytest.mark.parametrize("device", ["meta", "mps", "nonsense", "cuda:99"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(ConfigRefusal, match="device"):
        device_of(device)


@pytest.mark.parametrize("version", ["null", '""', '"a\\\\b"', f'"{"x" * 33}"', '"\\u00e9"', "1.0"])
def test_a_version_that_dicom_cannot_hold_is_refused(tmp_path: Path, version: str) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "m").write_text(f'{{"version": {version}}}')
    with pytest.raises(CheckpointRefusal, match="version"):
        ModelIdentity.of_weights(tmp_path / "w", tmp_path / "m")


@pytest.mark.parametrize("title", ["Head [/b] H31s", "\x1b]0;own the terminal\x07"])
def test_a_title_is_shown_and_not_obeyed(tmp_path: Path, bundle: Path, title: str) -> None:
    source = scan(tmp_path / "in", description=title)
    done = CliRunner().invoke(app, ["denoise", str(source), str(tmp_path / "out"), "--bundle", str(bundle)])
    assert done.exit_code == 0, done.output
    assert "\x1b]" not in done.output
    assert "denoised: " in done.output


def test_file_names_of_any_bytes(tmp_path: Path, bundle: Path) -> None:
    source = scan(tmp_path / "in")
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9\n.txt")).write_text("junk")
    done = CliRunner().invoke(app, ["denoise", str(source), str(tmp_path / "out"), "--bundle", str(bundle), "--report"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_whoever_stops_listening_does_not_change_the_outcome(tmp_path: Path, bundle: Path) -> None:
    source = scan(tmp_path / "in")
    for index in range(3000):
        (source / f"junk{index}.txt").touch()  # more lines than a pipe holds
    command = [sys.executable, "-m", "iscl_monai.cli", "denoise", str(source), str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--bundle", str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        run.stdout.close()
        assert run.stderr is not None
        message = run.stderr.read()
    assert run.returncode == 0, message
    assert (tmp_path / "out" / "00005.dcm").is_file()


@pytest.mark.parametrize("report", [False, True])
def test_a_series_that_proves_damaged_is_set_aside_whole(tmp_path: Path, bundle: Path, report: bool) -> None:
    scan(tmp_path / "in" / "good", description="good")
    cut = sorted(scan(tmp_path / "in" / "bad", description="bad").iterdir())[3]
    cut.write_bytes(cut.read_bytes()[:-100])
    words = ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), "--bundle", str(bundle)]
    words += ["--report"] * report
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 2
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output
    assert "denoised: good, 5 slices" in done.output
    assert f"refused: {cut}" in done.output
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 5
    assert (tmp_path / "out" / "report.html").is_file() == report
