"""The script for a GPU runs in small on a CPU: every part gives figures, or says why it has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
DONE = {"precision", "throughput", "training", "dicom", "streams"}


@pytest.mark.slow
def test_every_part_of_the_gpu_script_runs(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--device", "cpu", "--out", str(tmp_path / "gpu")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert {name for name, found in results.items() if not found.keys() & {"failed", "not done"}} == DONE, done.stderr
    assert all(isinstance(value, int | float) for name in DONE for value in results[name].values())
    assert not [name for name, found in results.items() if "failed" in found], done.stderr
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"## {name}" in page for name in results)


def test_a_cpu_is_not_taken_for_a_gpu(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--out", str(tmp_path / "gpu")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no GPU here" in done.stderr
