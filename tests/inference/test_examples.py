"""The examples of the documentation, run; and the names they may use."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom.synthetic import Series
from typer.testing import CliRunner

import iscl_monai
from iscl_monai.cli import app
from iscl_monai.dicom.series import read_series

ROOT = Path(__file__).parents[2]
QUICKSTART = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")


@pytest.fixture
def workplace(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name: ``scan`` and ``bundles/iscl``."""
    shutil.copytree(bundle, tmp_path / "bundles/iscl")
    Series(rows=40, columns=36).write(tmp_path / "scan")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example(workplace: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", QUICKSTART, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (read_series(workplace / name, geometry="slices") for name in ("scan", "denoised"))
    assert after.study_uid == before.study_uid
    assert after.series_uid != before.series_uid
    assert np.abs(after.hu - before.hu).max() > 1


@pytest.mark.parametrize("page", ["docs/quickstart.md", "README.md"])
def test_the_command_of_the_documentation(workplace: Path, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (line,) = set(re.findall(r"^iscl-monai (denoise .*--bundle .*)$", text, re.MULTILINE))
    done = CliRunner().invoke(app, shlex.split(line))
    assert done.exit_code == 0, done.output
    assert {path.name for path in (workplace / "denoised").iterdir()} >= {"00001.dcm", "report.html", "residual"}


def test_every_public_name_is_there() -> None:
    for name in iscl_monai.__all__:
        assert getattr(iscl_monai, name) is not None
    assert sorted(iscl_monai.__all__) == dir(iscl_monai)
    assert {"read_series", "write_derived_series", "Denoiser", "denoise_volume", "denoise"} <= set(iscl_monai.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        iscl_monai.nothing  # noqa: B018


def test_a_public_name_costs_nothing_until_it_is_used() -> None:
    script = "import sys, iscl_monai; assert not {'torch', 'pydicom', 'monai', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
