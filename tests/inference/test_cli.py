"""The command line: exit codes, one line for each refusal, and nothing left behind whatever stops it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom.synthetic import Series
from inference.niftis import Nifti
from typer.testing import CliRunner, Result

from iscl_monai import __version__
from iscl_monai.cli import DISCLAIMER, app
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.inference import Denoiser

PROGRESS = re.compile(r"\d/\d+ slices")
SMALL = Series(slots=range(3), rows=24, columns=20)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wide and colourless; and the handler of signals put back."""
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of three slices and a text."""
    SMALL.write(tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("not a slice")
    return tmp_path / "in"


def run(*arguments: object, bundle: Path | None = None) -> Result:
    more = ["--bundle", str(bundle), "--device", "cpu"] if bundle else []
    return CliRunner().invoke(app, [*map(str, arguments), *more])


def refused(result: Result, *words: str) -> None:
    """One line on stderr besides the progress, and 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip() and not PROGRESS.search(line)]
    assert len(lines) == 1
    assert re.match(r"\w*Refusal: .*; allowed: .*; do: .*", lines[0])
    for word in words:
        assert word in lines[0]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# --- what is done -----------------------------------------------------------------------------------


def test_a_folder_becomes_a_folder(source: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("denoise", source, tmp_path / "out", "--workers", 1, bundle=bundle)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "denoised: synthetic, 3 slices",
        f"skipped: {source / 'notes.txt'}: not a DICOM file",
        f"written: {tmp_path / 'out'} ({DISCLAIMER})",
    ]
    assert names(tmp_path) == ["in", "out"]
    assert names(tmp_path / "out") == ["00001.dcm", "00002.dcm", "00003.dcm"]


def test_a_file_becomes_a_file(source: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("denoise", source / "slice001", tmp_path / "out.dcm", "--save-residual", "--report", bundle=bundle)
    assert result.exit_code == 0
    assert names(tmp_path) == ["in", "out.dcm", "out.report.html", "out.report.json", "out.residual.dcm"]
    before, after, removed = (
        load_slice(read_header(path))[0]
        for path in (source / "slice001", tmp_path / "out.dcm", tmp_path / "out.residual.dcm")
    )
    np.testing.assert_array_equal(removed.hu(), before.hu() - after.hu())
    refused(run("denoise", source / "slice001", source, bundle=bundle), "is a folder")


def test_nifti_becomes_nifti(bundle: Path, tmp_path: Path) -> None:
    Nifti().write(tmp_path / "in.nii")
    result = run("denoise", tmp_path / "in.nii", tmp_path / "out.nii.gz", bundle=bundle)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "denoised: in.nii, 3 slices"
    refused(run("denoise", tmp_path / "in.nii", tmp_path / "out.dcm", bundle=bundle), "ends with .nii or .nii.gz")
    for options in ((), ("--dry-run",)):
        again = run("denoise", tmp_path / "out.nii.gz", tmp_path / "twice.nii", *options, bundle=bundle)
        refused(again, "out.nii.gz: its description says 'AI-processed, derived'")


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_values_of_nifti_are_looked_at(bundle: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    inside = Nifti(values=np.random.default_rng(0).normal(20, 15, (18, 20, 3))).write(tmp_path / "inside.nii")
    offset = Nifti(values=Nifti().stored() + 1024.0).write(tmp_path / "offset.nii")
    where = tmp_path / "out.nii"
    refused(run("denoise", inside, where, *options, bundle=bundle), "no air near -1000 HU", "--trust-hu")
    refused(run("denoise", offset, where, *options, bundle=bundle), "allowed: Hounsfield units")
    assert run("denoise", inside, where, "--trust-hu", *options, bundle=bundle).exit_code == 0
    refused(run("denoise", tmp_path, tmp_path / "o", "--trust-hu", *options, bundle=bundle), "with a NIfTI file")


def test_settings_reach_the_denoiser(source: Path, bundle: Path, tmp_path: Path) -> None:
    options = ("--strength", 0.25, "--mode", "extractor", "--tile", 160, "--series", SMALL.series_uid)
    assert run("denoise", source, tmp_path / "out", *options, bundle=bundle).exit_code == 0
    description = pydicom.dcmread(tmp_path / "out" / "00001.dcm").DerivationDescription
    for words in ("strength 0.25", "mode extractor", "tile 160", "device cpu"):
        assert words in description
    assert run("denoise", source, tmp_path / "off", "--strength", 0, bundle=bundle).exit_code == 0
    after = [load_slice(read_header(path))[0].stored for path in sorted((tmp_path / "off").iterdir())]
    np.testing.assert_array_equal(after, SMALL.stored())


def test_the_bundle_may_come_from_the_environment(
    source: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISCL_MONAI_BUNDLE", str(bundle))
    assert run("denoise", source, tmp_path / "out", "--device", "cpu").exit_code == 0


def test_a_dry_run_writes_nothing_and_needs_no_bundle(source: Path, tmp_path: Path) -> None:
    Series(slots=[0], rows=15, columns=20, description="small", prefix="small").write(source)
    before = {path: path.read_bytes() for path in source.iterdir()}
    arguments = ("denoise", source, tmp_path / "out", "--dry-run", "--bundle", tmp_path / "none")
    result = run(*arguments)
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[:2] == ["would denoise: synthetic, 3 slices", f"skipped: {source / 'notes.txt'}: not a DICOM file"]
    assert lines[2].startswith(f"refused: {source / 'small000'}: Rows is 15; allowed: 16 to 4096")
    result = run(*arguments, "--strict")
    assert result.exit_code == 2
    assert result.stdout.splitlines() == lines
    assert names(tmp_path) == ["in"]
    assert {path: path.read_bytes() for path in source.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target-noise", "5", "--target-dose", "4"), "target noise 5 HU and target dose 4; allowed: one of the two"),
        (("--target-dose", "0.5"), "target dose 0.5; allowed: 1 to 10000 times"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    options: tuple[str, ...], words: str, source: Path, bundle: Path, tmp_path: Path
) -> None:
    for dry in ((), ("--dry-run",)):
        refused(run("denoise", source, tmp_path / "out", *options, *dry, bundle=bundle), words)
    assert names(tmp_path) == ["in"]


def test_a_refused_series_does_not_hold_up_the_others(source: Path, bundle: Path, tmp_path: Path) -> None:
    Series(slots=[0], rows=15, columns=20, description="small", prefix="small").write(source)
    refused(run("denoise", source, tmp_path / "out", "--strict", bundle=bundle), "Rows is 15")
    assert names(tmp_path) == ["in"]
    result = run("denoise", source, tmp_path / "out", bundle=bundle)
    assert result.exit_code == 3
    assert "refused: " in result.stdout
    assert names(tmp_path / "out") == ["00001.dcm", "00002.dcm", "00003.dcm"]


# --- what is refused --------------------------------------------------------------------------------


def test_places_that_are_wrong_are_refused(source: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    (tmp_path / "link").symlink_to(source)
    refused(run("denoise", tmp_path / "none", tmp_path / "out", bundle=bundle), "none does not exist")
    refused(run("denoise", source, tmp_path / "taken", bundle=bundle), "taken exists")
    refused(run("denoise", source, source / "out", bundle=bundle), "lies inside")
    refused(run("denoise", source, source, bundle=bundle), "lies inside")
    refused(run("denoise", source, tmp_path / "link" / "out", bundle=bundle), "lies inside")
    refused(run("denoise", source, tmp_path / "taken" / "file" / "out", bundle=bundle), "cannot be written")
    assert names(tmp_path) == ["in", "link", "taken"]
    assert len(names(source)) == 4


def test_models_and_modes_that_do_not_exist_are_refused(source: Path, bundle: Path, tmp_path: Path) -> None:
    arguments = ("denoise", source, tmp_path / "out")
    refused(run(*arguments, bundle=tmp_path), "CheckpointRefusal", "models/model.pt does not exist", "train first")
    refused(run(*arguments, "--mode", "best", bundle=bundle), "mode='best'", "ensemble, generator, extractor")
    refused(run(*arguments, "--device", "abacus", "--bundle", bundle), "device abacus")
    refused(run(*arguments, "--tile", 100, bundle=bundle), "tiles of 100 pixels")
    refused(run(*arguments, "--series", "1.2.3.4", bundle=bundle), "1.2.3.4", "check the UID")
    refused(run("denoise", source / "notes.txt", tmp_path / "out", bundle=bundle), "not a DICOM file")
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    "option",
    [
        ("--strength", "2"),
        ("--strength", "-0.1"),
        ("--strength", "nan"),
        ("--workers", "0"),
        ("--tile", "x"),
        ("--new",),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(source: Path, bundle: Path, tmp_path: Path, option: str) -> None:
    result = run("denoise", source, tmp_path / "out", option, bundle=bundle)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert names(tmp_path) == ["in"]


def test_a_slice_that_cannot_be_decoded_is_one_line(source: Path, bundle: Path, tmp_path: Path) -> None:
    for path in source.iterdir():
        path.unlink()
    path = Series(slots=range(3), rows=24, columns=20, rle=True).write(source)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-300] + bytes(200) + whole[-100:])
    refused(run("denoise", source, tmp_path / "out", bundle=bundle), f"{path}: PixelData is not decodable")
    assert names(tmp_path) == ["in"]


# --- what stops it ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (ValueError("inner"), 1), (OSError(28, "full"), 2)]
)
def test_whatever_happens_has_an_exit_code(
    source: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Denoiser, "change_hu", fail)
    result = run("denoise", source, tmp_path / "out", bundle=bundle)
    assert result.exit_code == code
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if not PROGRESS.search(line)]
    assert len(lines) == 1
    logs = [name for name in names(tmp_path) if name != "in"]
    assert len(logs) == (code == 1)
    if logs:
        assert str(tmp_path / logs[0]) in lines[0]
        assert "ValueError: inner" in (tmp_path / logs[0]).read_text()


def stopped(source: Path, target: Path, bundle: Path, how: int) -> tuple[int, str]:
    """Exit code and stderr of a run that got a signal when its first slice was being written."""
    command = [sys.executable, "-W", "ignore", "-m", "iscl_monai.cli", "denoise", source, target, "--bundle", bundle]
    with subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(target.parent.glob(f".{target.name}.*.partial/*")):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(how)
        _, message = process.communicate()
    return process.returncode, message


@pytest.fixture
def long_scan(tmp_path: Path) -> Path:
    """So many slices that they are not done before a signal arrives."""
    Series(slots=range(60), rows=128, columns=128).write(tmp_path / "in")
    return tmp_path / "in"


def test_a_termination_leaves_nothing(long_scan: Path, bundle: Path, tmp_path: Path) -> None:
    code, message = stopped(long_scan, tmp_path / "out", bundle, signal.SIGTERM)
    assert code == 130
    assert "interrupted; nothing was written" in message
    assert names(tmp_path) == ["in"]


def test_a_kill_leaves_what_the_next_run_removes(long_scan: Path, bundle: Path, tmp_path: Path) -> None:
    code, _ = stopped(long_scan, tmp_path / "out", bundle, signal.SIGKILL)
    assert code == -signal.SIGKILL
    hidden, _ = names(tmp_path)
    assert re.fullmatch(r"\.out\..*\.partial", hidden)
    for path in list(long_scan.iterdir())[2:]:
        path.unlink()
    assert run("denoise", long_scan, tmp_path / "out", bundle=bundle).exit_code == 0
    assert names(tmp_path) == ["in", "out"]


def test_a_disk_that_takes_no_more_leaves_nothing(source: Path, bundle: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        result = run("denoise", source, tmp_path / "out", bundle=bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(result, "OutputRefusal", "cannot be written (File too large)")
    assert names(tmp_path) == ["in"]


# --- what it says of itself -------------------------------------------------------------------------


def test_help_tells_every_option_and_what_results_are() -> None:
    result = run("denoise", "--help")
    assert result.exit_code == 0
    for word in ("strength", "mode", "device", "bundle", "series", "save-residual", "report", "strict"):
        assert f"--{word}" in result.stdout
    for word in ("keep-private", "tile", "workers", "dry-run"):
        assert f"--{word}" in result.stdout
    assert "labelled as AI-processed" in " ".join(result.stdout.split())
    assert DISCLAIMER in run("--help").stdout
    assert run("--version").stdout.strip() == f"iscl-monai {__version__}"
