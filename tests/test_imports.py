"""What may be missing on a machine, and who may import whom."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms that a contract has to name as soon as they exist.
CONTRACTS = {
    "DICOM semantics know no deep learning": {
        f"dicom.{module.stem}" for module in (ROOT / "iscl_monai" / "dicom").glob("*.py")
    }
    - {"dicom.__init__", "dicom.monai_io"},
    "micrographs and magnitudes are read without deep learning": {"micrograph", "magnitude"},
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_nodes_own_process_needs_no_torch() -> None:
    """Its worker has the model; half a gigabyte for the receiver beside it would be for nothing."""
    script = WITHOUT.format(blocked={"torch", "monai"}, modules=["iscl_monai.service.node"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_denoising_needs_no_monai() -> None:
    """It takes longer to import than a slice to denoise."""
    modules = ["iscl_monai.inference", "iscl_monai.service.working.worker", "iscl_monai.report.denoising"]
    script = WITHOUT.format(blocked={"monai", "ignite"}, modules=modules)
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


IMPORTERS = {"import_module", "__import__", "locate", "run_module", "run_path", "exec_module"}
BY_NAME_ON_PURPOSE = {
    ("iscl_monai/__init__.py", "import_module"),  # the public names, when they are first used
    ("iscl_monai/inference/__init__.py", "import_module"),  # likewise
    ("iscl_monai/configuration/check.py", "locate"),  # the classes that a config names
    ("iscl_monai/evaluation/submission/source.py", "exec_module"),  # a user's own file, which he names
}


def imports_by_name(source: str) -> Iterator[str]:
    """What gets around the import contracts: calls that import by a string, and strings that name data_prep."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in IMPORTERS:
                yield called
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if node.value == "data_prep" or node.value.startswith("data_prep."):
                yield node.value
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in IMPORTERS and alias.asname)


@pytest.mark.parametrize("module", sorted((ROOT / "iscl_monai").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_imported_by_name(module: Path) -> None:
    place = module.relative_to(ROOT).as_posix()
    found = set(imports_by_name(module.read_text(encoding="utf-8")))
    assert not {name for name in found if (place, name) not in BY_NAME_ON_PURPOSE}


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module('data_prep.phantom')",
        "from importlib import import_module as load\nload('iscl_monai.training')",
        "import_module('data_' + 'prep')",
        "__import__('iscl_monai.service')",
        "import pydoc\npydoc.locate('iscl_monai.training.trainer')",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'data_prep', 'phantom', 'x'])",
        "import runpy\nrunpy.run_module('data_prep')",
    ],
)
def test_a_wrong_import_by_name_is_seen(source: str) -> None:
    assert list(imports_by_name(source))


def test_a_wrong_import_breaks_the_contracts(tmp_path: Path) -> None:
    """The contracts of this repository over a copy of it, with one arrow that runs the wrong way."""
    for package in ("iscl_monai", "data_prep"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    wrong = {
        "iscl_monai/losses.py": "import iscl_monai.networks.denoiser",  # a stranger of the same floor
        "iscl_monai/phantom/canvas.py": "import data_prep.table",
        "iscl_monai/hu.py": "import iscl_monai.service.node",
    }
    for place, line in wrong.items():
        with (tmp_path / place).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    for arrow in ("losses -> iscl_monai.networks", "phantom.canvas -> data_prep.table", "hu -> iscl_monai.service"):
        assert arrow in done.stdout, done.stdout


def test_every_room_of_the_package_is_in_a_layer() -> None:
    """Exhaustive contracts refuse a room that stands in none; an optional one must not hide a misspelling."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (
        entry["layers"]
        for entry in settings["tool"]["importlinter"]["contracts"]
        if entry.get("containers") == ["iscl_monai"]
    )
    named = {room.strip(" ()") for layer in layers for room in layer.split("|")}
    there = {
        path.stem for path in (ROOT / "iscl_monai").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == named
