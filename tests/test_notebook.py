"""The notebook of the documentation runs from its first cell to its last, on a small phantom."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorials" / "dicom-to-report.ipynb"
PHANTOM = "iscl-monai phantom patients --slices 2"
SMALL = " --size 96 --spacing 3.6"
"""As the fixture ``tiny_patients`` was made, so that the command finds it complete."""


def cells() -> list[nbformat.NotebookNode]:
    return nbformat.read(NOTEBOOK, as_version=4).cells


def test_no_output_is_kept_in_the_repository() -> None:
    for cell in cells():
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.filterwarnings("ignore")  # of Jupyter
def test_it_runs(tmp_path: Path, tiny_patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_patients, tmp_path / "patients")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    commands = [cell for cell in notebook.cells if cell.source.startswith("!")]
    assert [cell.source for cell in commands].count(f"!{PHANTOM}") == 1
    for cell in commands:  # IPython goes on after a command that failed
        cell.source = cell.source.replace(PHANTOM, PHANTOM + SMALL) + "\nassert _exit_code == 0"
    client = NotebookClient(notebook, timeout=600, startup_timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = ["".join(out.get("text", "") for out in cell.get("outputs", ())) for cell in notebook.cells]
    low, denoised = map(float, re.findall(r"([\d.]+) HU", printed[-2]))
    assert denoised < 0.95 * low
    assert re.search(r"Local noise, lung: [\d.]+ -> [\d.]+ HU", "".join(printed))
    assert (tmp_path / "scores" / "report.html").is_file()
