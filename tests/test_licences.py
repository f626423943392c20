"""What the package needs at run time is used by it, and may be used in a hospital: no GPL, and all with a licence."""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# LGPL would do for libraries that are imported; none is needed so far. AGPL and GPL are not wanted at all.
UNWANTED = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
USED_BY_OTHERS = {
    "fire": "the command line of monai.bundle",
    "pyarrow": "pandas writes and reads parquet with it",
    "pyjpegls": "pydicom decodes JPEG-LS with it",
    "pylibjpeg": "pydicom finds the decoders below through it",
    "pylibjpeg-openjpeg": "pydicom decodes JPEG 2000 with it",
    "python-multipart": "FastAPI reads forms with it",
    "tensorboard": "torch.utils.tensorboard writes its files",
}
ROOMS = {
    "": ("iscl_monai", "data_prep"),
    "batch": ("iscl_monai/batch",),
    "data": ("data_prep", "iscl_monai/scanner"),
    "evaluate": ("iscl_monai/quality", "iscl_monai/baselines", "iscl_monai/evaluation"),
    "serve": ("iscl_monai/service",),
}
"""Extra -> where its packages are imported."""
LICENCES_READ_ELSEWHERE = {  # their metadata is silent or long; read in their repositories or wheels
    "fire": "Apache-2.0",
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str) -> set[str]:
    """Packages that the project asks for; without an extra those of everybody."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {canonical(Requirement(line).name) for line in lines}


def imported(*rooms: str) -> set[str]:
    """Top-level modules that files below these folders import, at the top or within a function."""
    found: set[str] = set()
    for file in (file for room in rooms for file in (PYPROJECT.parent / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found |= {name.partition(".")[0] for name in names}
    return found


def unused(packages: set[str], modules: set[str]) -> set[str]:
    """Packages none of whose modules are among these."""
    gives: dict[str, set[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        for name in distributions:
            gives.setdefault(canonical(name), set()).add(module)
    return {name for name in packages if not gives.get(name, {name.replace("-", "_")}) & modules}


@pytest.mark.slow
@pytest.mark.parametrize("extra", ROOMS)
def test_every_dependency_is_imported_or_used_by_another(extra: str) -> None:
    idle = unused(declared(extra), imported(*ROOMS[extra]))
    assert idle - USED_BY_OTHERS.keys() == set(), "take it out, or say in USED_BY_OTHERS who uses it"


@pytest.mark.slow
def test_what_others_use_is_not_imported_by_us() -> None:
    modules = imported("iscl_monai", "data_prep")
    assert unused(set(USED_BY_OTHERS), modules) == set(USED_BY_OTHERS)


def test_the_check_sees_an_idle_dependency() -> None:
    assert unused({"highdicom", "pydicom", "scikit-image"}, {"pydicom", "skimage"}) == {"highdicom"}


def needed() -> dict[str, metadata.Distribution]:
    """Every package that ``iscl-monai[batch,serve]`` brings along, by name."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found: dict[str, metadata.Distribution] = {}
    extras = project["optional-dependencies"]
    waiting = [*project["dependencies"], *extras["batch"], *extras["serve"]]
    while waiting:
        requirement = Requirement(waiting.pop())
        of_it = ["", *requirement.extras]
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or not wanted(requirement, of_it):
            continue
        found[name] = metadata.distribution(requirement.name)
        waiting += [one for one in found[name].requires or [] if wanted(Requirement(one), of_it)]
    return found


def wanted(requirement: Requirement, extras: list[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def licence(distribution: metadata.Distribution) -> str:
    fields = distribution.metadata
    classifiers = [line for line in fields.get_all("Classifier") or [] if line.startswith("License ::")]
    return " | ".join(
        filter(None, [fields.get("License-Expression"), (fields.get("License") or "")[:200], *classifiers])
    )


def test_nothing_under_the_gpl_at_run_time() -> None:
    found = needed()
    assert {"torch", "pydicom", "pynetdicom", "fastapi", "sqlalchemy"} <= set(found)
    unwanted = {name: licence(one) for name, one in found.items() if UNWANTED.search(licence(one))}
    assert not unwanted
    silent = [name for name, one in found.items() if not licence(one) and name not in LICENCES_READ_ELSEWHERE]
    assert not silent


def test_the_check_knows_a_gpl_package_when_it_sees_one() -> None:
    assert UNWANTED.search("GPL-3.0-or-later")
    assert UNWANTED.search("License :: OSI Approved :: GNU General Public License v3 (GPLv3)")
    assert not UNWANTED.search("MIT | BSD-3-Clause")


def test_every_one_is_pinned_for_reproducible_images() -> None:
    lines = (PYPROJECT.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line}
    brought = {"setuptools", "iscl-monai", "torch"}  # by the builder; torch has a line of its own in the Makefile
    cuda = {name for name in needed() if name.startswith(("nvidia-", "triton", "cuda-"))}
    assert set(needed()) - pinned - brought - cuda == set()
