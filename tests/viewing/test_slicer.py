"""The module of 3D Slicer, by its code: ``qt``, ``slicer`` and ``vtk`` are stubs, the command is the real one.

Slicer brings a Python of its own and cannot be had from a package index, so its windows are not tested here.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.inference import Denoiser, denoise_volume

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "viewers" / "slicer" / "IsclDenoise" / "IsclDenoise.py"
BUNDLE = ROOT / "bundles" / "iscl"


class Matrix:
    """As ``vtkMatrix4x4``."""

    def __init__(self) -> None:
        self.values = np.eye(4)

    def GetElement(self, row: int, column: int) -> float:  # noqa: N802 - VTK's name
        return float(self.values[row, column])


class Volume:
    """As ``vtkMRMLScalarVolumeNode``."""

    def __init__(self, name: str, image: Any) -> None:
        self.name, self.image = name, image

    def GetName(self) -> str:  # noqa: N802 - Slicer's name
        return self.name

    def GetIJKToRASMatrix(self, matrix: Matrix) -> None:  # noqa: N802 - Slicer's name
        matrix.values = self.image.affine

    def GetImageData(self) -> Any:  # noqa: N802 - Slicer's name
        return SimpleNamespace(GetDimensions=lambda: self.image.shape)


def load(path: str, properties: dict[str, str]) -> Volume:
    image = nibabel.load(path)
    return Volume(properties["name"], nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine))


def save(node: Volume, path: str) -> bool:
    node.image.to_filename(path)
    return True


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Slicer's part that the module uses."""
    util = SimpleNamespace(
        saveNode=save, loadVolume=load, startupEnvironment=lambda: {"PATH": "x", "PYTHONHOME": "of Slicer"}
    )
    stub = MagicMock(util=util)
    parts = {name: type(name, (), {"__init__": lambda self, *_: None}) for name in ("", "Logic", "Widget")}
    loadable = SimpleNamespace(**{f"ScriptedLoadableModule{name}": part for name, part in parts.items()})
    modules = {"slicer": stub, "slicer.ScriptedLoadableModule": loadable, "vtk": SimpleNamespace(vtkMatrix4x4=Matrix)}
    for name, module in {**modules, "qt": MagicMock()}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return stub


@pytest.fixture
def module(slicer: Any) -> ModuleType:
    specification = importlib.util.spec_from_file_location("IsclDenoise", MODULE)
    assert specification is not None
    assert specification.loader is not None
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


@pytest.fixture
def volume() -> Volume:
    chance = np.random.default_rng(0)
    values = np.rint(chance.normal(-1000, 15, (40, 32, 2))).astype(np.int16)
    values[8:-8, 8:-8] = chance.normal(40, 30, (24, 16, 2))
    affine = np.array([[-0.5, 0, 0, 10.0], [0, 0.75, 0, -7.0], [0, 0, 2.0, 3.0], [0, 0, 0, 1]])
    return Volume("CT 3", nibabel.Nifti1Image(values, affine))


def really(words: list[str], **options: Any) -> Any:
    """The command that was asked for, in this process."""
    assert "PYTHONHOME" not in options["env"]
    done = CliRunner().invoke(app, [*words[1:], "--device", "cpu", "--bundle", str(BUNDLE)])
    return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)


def test_a_volume_comes_back_denoised_at_its_place(module: ModuleType, volume: Volume) -> None:
    made = module.IsclDenoiseLogic().denoise(volume, command="iscl-monai", strength=0.5, run=really)
    assert made.GetName() == "CT 3 denoised"
    assert np.array_equal(made.image.affine, volume.image.affine)
    hu = np.asarray(volume.image.dataobj).transpose(2, 1, 0)
    expected = denoise_volume(hu, Denoiser.from_bundle(BUNDLE, device="cpu", strength=0.5))
    assert np.abs(np.asarray(made.image.dataobj).transpose(2, 1, 0) - expected).max() <= 0.501  # stored in integers


def test_what_the_command_refuses_is_said(module: ModuleType, volume: Volume) -> None:
    no_ct = Volume("photo", nibabel.Nifti1Image(np.full((40, 32, 2), 7, np.int16), np.eye(4)))
    with pytest.raises(RuntimeError, match="allowed:"):
        module.IsclDenoiseLogic().denoise(no_ct, command="iscl-monai", run=really)
    with pytest.raises(RuntimeError, match="does not start"):
        module.IsclDenoiseLogic().denoise(volume, command="/nowhere/iscl-monai")


def test_no_command_is_said(module: ModuleType, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="pip install iscl-monai"):
        module.IsclDenoiseLogic().denoise(volume)


@pytest.mark.parametrize("moved", [True, False])
def test_another_geometry_is_taken_away_again(module: ModuleType, slicer: Any, volume: Volume, moved: bool) -> None:
    def elsewhere(words: list[str], **options: Any) -> Any:
        image = nibabel.load(words[2])
        values, affine = np.asarray(image.dataobj), image.affine.copy()
        if moved:
            affine[:3, 3] += 1
        else:
            values = values[..., :1]
        nibabel.Nifti1Image(values, affine).to_filename(words[3])
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    with pytest.raises(RuntimeError, match="another geometry"):
        module.IsclDenoiseLogic().denoise(volume, command="iscl-monai", run=elsewhere)
    slicer.mrmlScene.RemoveNode.assert_called_once()
