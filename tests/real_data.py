"""Where the real scans lie. They are used when present, and must be present when ``CI=true``.

``ISCL_MONAI_SHARED`` names the data folder (the one with ``SOURCES.md``); without it ``../shared/data``
beside the repository is tried. Archives are unpacked once into
``${XDG_CACHE_HOME:-~/.cache}/iscl-monai-data/<archive name>``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

ARCHIVE = ".tar.xz"


def shared_folder() -> Path:
    """The folder holding ``SOURCES.md``; it need not exist."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("ISCL_MONAI_SHARED", beside))


def real(name: str) -> Path:
    """A folder (or file) of real data by its path in ``SOURCES.md`` without ``.tar.xz``.

    Args:
        name: e.g. ``"qa/ge_head_tilt"`` (an archive, unpacked on first use) or
            ``"robust/robust_pydicom"`` (a plain folder).

    Returns:
        The plain path, or the folder that the archive was unpacked into.

    Raises:
        pytest.skip.Exception: when the data is absent; a failure instead when ``CI=true``.
    """
    plain = shared_folder() / name
    if plain.exists():
        return plain
    archive = plain.with_name(plain.name + ARCHIVE)
    if archive.exists():
        return _unpacked(archive)
    message = f"real data {name!r} is not in {shared_folder()}; set ISCL_MONAI_SHARED"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


def _unpacked(archive: Path) -> Path:
    """Unpack once; several test processes may arrive together, so the last step is a rename."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iscl-monai-data"
    target = cache / archive.name.removesuffix(ARCHIVE)
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=cache, prefix=target.name + ".part-"))
    try:
        # The "data" filter needs 3.12, or a patch release of 3.10/3.11 that has it; the archives are our own.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(archive) as tar:
            tar.extractall(work, **safe)  # type: ignore[arg-type]
        work.chmod(0o755)
        try:
            work.rename(target)
        except OSError:  # another process was faster; its folder is as good as ours
            if not target.is_dir():
                raise
    finally:
        if work.exists():
            shutil.rmtree(work, ignore_errors=True)
    return target


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        print(real(asked))
