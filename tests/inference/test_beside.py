"""Processes that read and write files beside a GPU: the same files as without them, and the same refusals."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.derived import MOMENT
from dicom.synthetic import Series
from inference.tiny import tiny_network

from iscl_monai.errors import CheckpointRefusal, OutputRefusal
from iscl_monai.inference import beside
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.series import denoise_series
from iscl_monai.inference.slice_denoiser import ModelIdentity
from iscl_monai.parallel import useful_processes


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser(tiny_network(), identity=ModelIdentity("ISCL", "1", "0" * 64), device="cpu")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("iscl_monai.inference.stream.LEAST_SLICES", 2)
    Series(slots=range(7), rows=16, columns=16).write(tmp_path / "source")
    return tmp_path / "source"


class Seen:
    """Watches what is written."""

    def __init__(self) -> None:
        self.slices: list[tuple[int, Any, Any, Any]] = []

    def begins(self, *_: object) -> None: ...

    def gave_up(self) -> None: ...

    def ends(self, *_: object) -> None: ...

    def slice_written(self, written: Any) -> None:
        self.slices.append((written.index, written.before_hu, written.after_hu, written.padded))


def test_the_same_files_and_the_same_to_see(tmp_path: Path, source: Path, denoiser: Denoiser) -> None:
    results = []
    for count in (0, 2):
        seen, out = Seen(), tmp_path / f"by {count}"
        options: dict[str, Any] = {"moment": MOMENT, "save_residual": True, "watcher": seen}
        denoise_series(source, out, denoiser=denoiser, processes=count, **options)
        files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.dcm")}
        results.append((files, seen.slices))
    assert len(results[0][0]) == 14
    assert results[0][0] == results[1][0]
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_equal(one, other)
    assert not multiprocessing.active_children()


def test_a_fault_of_the_network_ends_the_processes(
    tmp_path: Path, source: Path, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(slice_hu: object) -> None:
        raise CheckpointRefusal("NaN", allowed="numbers", cure="other weights")

    monkeypatch.setattr(denoiser, "change_hu", broken)
    with pytest.raises(CheckpointRefusal, match="NaN"):
        denoise_series(source, tmp_path / "out", denoiser=denoiser, processes=1)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "out").exists()


def test_a_refusal_of_a_process_is_a_refusal(tmp_path: Path, source: Path, denoiser: Denoiser) -> None:
    def take_the_place(slice_hu: np.ndarray) -> np.ndarray:
        for folder in tmp_path.glob(".out.*"):
            (folder / "00003.dcm").mkdir(exist_ok=True)
        return np.zeros(slice_hu.shape, np.float32)

    denoiser.change_hu = take_the_place  # type: ignore[method-assign, assignment]
    with pytest.raises(OutputRefusal, match=r"00003\.dcm cannot be written"):
        denoise_series(source, tmp_path / "out", denoiser=denoiser, processes=1)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_a_fault(tmp_path: Path, source: Path, denoiser: Denoiser) -> None:
    def kill(slice_hu: np.ndarray) -> np.ndarray:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, 9)
        return np.zeros(slice_hu.shape, np.float32)

    denoiser.change_hu = kill  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match="has ended before its work was done"):
        denoise_series(source, tmp_path / "out", denoiser=denoiser, processes=1)
    assert not (tmp_path / "out").exists()


def test_a_cpu_has_none_beside_it() -> None:
    assert useful_processes("cpu") == 0
    assert beside.LEAST_SLICES > 1
