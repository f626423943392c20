"""The bundle goes with the package: into the wheel, and from there to who wants to train."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from iscl_monai import bundle
from iscl_monai.bundle import bundle_to_read, copy_bundle, installed_bundle
from iscl_monai.errors import ConfigRefusal, OutputRefusal
from tests.made_once import made_once

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "iscl"
RELEASED = {Path("models") / name for name in ("released.pt", "student.pt", "released.json")}
SHIPPED = {path.relative_to(BUNDLE) for part in ("configs", "docs") for path in (BUNDLE / part).rglob("*")} | RELEASED


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel installs."""

    def make(folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(folder / "site-packages")

    return made_once(tmp_path_factory, "wheel", make) / "site-packages"


def installed(unpacked: Path, code: str, cwd: Path) -> str:
    """What Python prints that has this package from the wheel, and stands where there is no repository."""
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_bundle_and_no_data(unpacked: Path) -> None:
    inside = unpacked / "iscl_monai" / "bundles" / "iscl"
    held = {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()}
    assert held == {path for path in SHIPPED if (BUNDLE / path).is_file()} | {Path("LICENSE")}
    assert (inside / "configs" / "train.json").read_bytes() == (BUNDLE / "configs" / "train.json").read_bytes()


@pytest.mark.parametrize("package", ["iscl_monai/report", "iscl_monai/service/web", "data_prep"])
def test_the_wheel_holds_every_template_and_static_file(unpacked: Path, package: str) -> None:
    parts = [path for part in ("templates", "static") for path in (ROOT / package / part).rglob("*") if path.is_file()]
    assert len(parts) >= 4
    assert [path for path in parts if not (unpacked / path.relative_to(ROOT)).is_file()] == []


def test_what_a_wheel_installs_finds_its_bundle_anywhere(unpacked: Path, tmp_path: Path) -> None:
    found = installed(unpacked, "from iscl_monai.bundle import bundle_to_read as b; print(b('--bundle'))", tmp_path)
    assert Path(found.strip()) == unpacked / "iscl_monai" / "bundles" / "iscl"
    code = "from iscl_monai.cli import app; app(['bundle', 'mine'], standalone_mode=False)"
    installed(unpacked, code, tmp_path)
    copied = {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine").rglob("*")}
    assert copied == SHIPPED | {Path(name) for name in ("LICENSE", "configs", "docs", "models")}


def test_the_bundle_here_comes_before_the_installed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_to_read("--bundle") == installed_bundle() == BUNDLE
    mine = copy_bundle(tmp_path / "mine")
    monkeypatch.chdir(mine)
    assert bundle_to_read("--bundle") == Path()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scan").touch()
    with pytest.raises(OutputRefusal):
        copy_bundle(tmp_path / "mine")


def test_without_any_bundle_the_option_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle, "installed_bundle", lambda: None)
    with pytest.raises(ConfigRefusal, match="give --bundle"):
        bundle_to_read("--bundle")
