"""What the package needs at run time may be used in a hospital's image: no GPL, and nothing without a licence."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# LGPL would do for libraries that are imported; none is needed so far. AGPL and GPL are not wanted at all.
UNWANTED = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
TOLD_ELSEWHERE = {  # their metadata is silent or long; read in their repositories or wheels
    "fire": "Apache-2.0",
}


def needed() -> dict[str, metadata.Distribution]:
    """Every package that ``iscl-monai[serve]`` brings along, by name."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found: dict[str, metadata.Distribution] = {}
    waiting = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    while waiting:
        requirement = Requirement(waiting.pop())
        extras = ["", *requirement.extras]
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or not wanted(requirement, extras):
            continue
        found[name] = metadata.distribution(requirement.name)
        waiting += [one for one in found[name].requires or [] if wanted(Requirement(one), extras)]
    return found


def wanted(requirement: Requirement, extras: list[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def licence(distribution: metadata.Distribution) -> str:
    told = distribution.metadata
    classifiers = [line for line in told.get_all("Classifier") or [] if line.startswith("License ::")]
    return " | ".join(filter(None, [told.get("License-Expression"), (told.get("License") or "")[:200], *classifiers]))


def test_nothing_under_the_gpl_at_run_time() -> None:
    found = needed()
    assert {"torch", "pydicom", "pynetdicom", "fastapi", "sqlalchemy"} <= set(found)
    unwanted = {name: licence(one) for name, one in found.items() if UNWANTED.search(licence(one))}
    assert not unwanted
    silent = [name for name, one in found.items() if not licence(one) and name not in TOLD_ELSEWHERE]
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
