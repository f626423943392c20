"""What may be missing on a machine, and who may import whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms that a contract has to name as soon as they exist.
CONTRACTS = {
    "DICOM semantics know no deep learning": {"dicom.series", "dicom.derive"},
    "the mathematics knows no files": {"networks", "losses", "quality", "hu"},
    "serving never imports training": {"service", "inference", "batch"},
    "only the service speaks DICOM network": {"inference", "training", "transforms", "data", "dicom"},
}

WITHOUT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for module in {modules!r}:
    importlib.import_module(module)
loaded = {blocked!r} & {{name.partition(".")[0] for name in sys.modules}}
assert not loaded, loaded
"""


def test_imports_without_dicom_libraries() -> None:
    modules = [
        "iscl_monai.training",
        "iscl_monai.training.trainer",
        "iscl_monai.dicom.monai_io",
        "iscl_monai.networks.denoising_network",
        "iscl_monai.quality.fidelity",
        "iscl_monai.quality.noise",
        "iscl_monai.report.write",
    ]
    script = WITHOUT.format(blocked={"pydicom", "highdicom", "SimpleITK"}, modules=modules)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_nodes_own_process_needs_no_torch() -> None:
    """Its worker has the model; half a gigabyte for the receiver beside it would be for nothing."""
    script = WITHOUT.format(blocked={"torch", "monai"}, modules=["iscl_monai.service.node"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CONTRACTS)
def test_contracts_name_every_room_that_exists(name: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {entry["name"]: entry for entry in settings["tool"]["importlinter"]["contracts"]}
    named = set(contracts.get(name, {}).get("source_modules", []))
    missing = {f"iscl_monai.{room}" for room in CONTRACTS[name] if exists(room)} - named
    assert not missing, f"add to contract {name!r} in pyproject.toml: {sorted(missing)}"


def exists(room: str) -> bool:
    place = ROOT / "iscl_monai" / room.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()
