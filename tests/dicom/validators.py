"""Other people's DICOM tools. They are used when present, and must be present when ``CI=true`` (``make tools``)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

PLACES = "/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin"
"""Never the virtual environment, where pynetdicom has scripts named like dcmtk's programs."""

NEW_TO_DICOM3TOOLS = (
    "Unrecognized defined term = <99ISCL>",
    "Unrecognized defined term = <DENOISED>",
    "Unrecognized defined term = <RESIDUAL>",
    "Unrecognized defined term = <SIMULATED>",
    "Unrecognized defined term = <AVERAGED>",
    "/DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD",  # it is, since 2022
)


def tool(name: str) -> str:
    """The full path of a program.

    Raises:
        pytest.skip.Exception: when it is absent; a failure instead when ``CI=true``.
    """
    found = shutil.which(name, path=PLACES)
    if found:
        return found
    return absent(f"{name} is not in {PLACES}; make tools installs it on Debian")


def absent(message: str) -> str:
    """What a missing tool does to a test."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a tool; whatever it writes comes back as text."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")


def complaints(path: Path) -> set[str]:
    """What dciodvfy says about one file: its lines of Error and Warning."""
    said = run("dciodvfy", "-new", path).stderr.splitlines()
    assert "CTImage" in said, said  # what it checked the file as
    return {line for line in said if line.startswith(("Error", "Warning"))}


def new_complaints(source: Path, derived: Path) -> list[str]:
    """What is wrong with a derived file and was not with its source, but for what dicom3tools does not know yet."""
    added = complaints(derived) - complaints(source)
    return sorted(line for line in added if not line.endswith(NEW_TO_DICOM3TOOLS))


def contradictions(files: Iterable[Path]) -> list[str]:
    """What dcentvfy says about files that shall belong together: entities told in two ways, its exit code too."""
    done = run("dcentvfy", *files)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return said or ([f"exit code {done.returncode}"] if done.returncode else [])
