"""What a program imports before it works, and before it refuses: seconds that everybody waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dicom.synthetic import Series

PROGRAM = """
import sys
from iscl_monai.cli import main

sys.argv = ["iscl-monai", *sys.argv[1:]]
try:
    main()
finally:
    slow = {"torch", "monai", "ignite", "pandas", "matplotlib", "tensorboard"}
    print("loaded:", *sorted(slow & {name.partition(".")[0] for name in sys.modules}))
"""


def denoise(*words: object) -> tuple[int, str, str]:
    """Exit code, the slow modules that were imported, and what was told of a refusal."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, "denoise", *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    (loaded,) = (line for line in done.stdout.splitlines() if line.startswith("loaded:"))
    return done.returncode, loaded.removeprefix("loaded:").strip(), done.stderr


def test_a_slice_is_denoised_with_torch_alone(bundle: Path, tmp_path: Path) -> None:
    (path,) = Series(slots=[0], rows=24, columns=20).write(tmp_path / "in")
    code, loaded, errors = denoise(path, tmp_path / "out.dcm", "--bundle", bundle)
    assert (code, loaded) == (0, "torch"), errors
    assert (tmp_path / "out.dcm").is_file()


@pytest.mark.parametrize("source", ["missing", "no_series", "series_unknown", "destination_taken", "dry_run"])
def test_what_needs_no_network_waits_for_no_torch(bundle: Path, tmp_path: Path, source: str) -> None:
    folder = tmp_path / "in"
    more: tuple[object, ...] = ("--bundle", bundle)
    if source != "missing":
        folder.mkdir()
        (folder / "notes.txt").write_text("not a slice")
    if source in ("series_unknown", "dry_run", "destination_taken"):
        Series(slots=[0], rows=24, columns=20).write(folder)
    if source == "series_unknown":
        more += ("--series", "1.2.3.4")
    if source == "dry_run":
        more += ("--dry-run",)
    if source == "destination_taken":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").touch()
    code, loaded, errors = denoise(folder, tmp_path / "out", *more)
    assert (code, loaded) == (0 if source == "dry_run" else 2, ""), errors
    assert len([line for line in errors.splitlines() if "Refusal: " in line]) == (source != "dry_run")
