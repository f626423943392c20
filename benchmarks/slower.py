"""Fails when the working tree does a thing slower than a commit, by more than a stated ratio, in one run.

    python benchmarks/slower.py COMMIT [--at-most 1.15] [--rounds 3] [--slices 40]

DICOM to DICOM without a network, and with the released student: CPU seconds of processes that take turns, COMMIT in its
own files. The ratio is that of the two smallest, since what else the machine does can only add.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from made_up_series import make_series

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
from iscl_monai.inference import Denoiser, denoise_series
source, out, strength, bundle = sys.argv[1:]
denoiser = Denoiser.from_bundle(bundle, device="cpu", weights="student", strength=float(strength))
start = time.process_time()
denoise_series(source, out, denoiser=denoiser, workers=2)
print(time.process_time() - start)
"""
TASKS = {"DICOM work": "0", "student, DICOM to DICOM": "1"}


def cpu_s(tree: Path, source: Path, strength: str) -> float:
    """Of one series in a new process with the files of a tree."""
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, "-c", CHILD, str(source), f"{place}/out", strength, str(ROOT / "bundles" / "iscl")]
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run(words, env=environment, cwd=place, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def ratios(commit: str, *, rounds: int, slices: int) -> dict[str, float]:
    """The tree's CPU seconds over the commit's, for each task."""
    archive = subprocess.run(["git", "archive", commit, "iscl_monai"], cwd=ROOT, capture_output=True, check=True).stdout
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        source = Path(folder) / "scan"
        make_series(source, slices)
        for task, strength in TASKS.items():
            taken = [[cpu_s(tree, source, strength) for tree in (Path(folder), ROOT)] for _ in range(rounds)]
            before, after = (min(column) for column in zip(*taken, strict=True))
            found[task] = after / before
            print(f"{task}: {before:.2f} CPU-s at {commit}, {after:.2f} here, ratio {after / before:.2f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--at-most", type=float, default=1.15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=40)
    options = parser.parse_args()
    found = ratios(options.commit, rounds=options.rounds, slices=options.slices)
    slower = [f"{task}: {ratio:.2f}" for task, ratio in found.items() if ratio > options.at_most]
    sys.exit(f"slower than {options.commit}: {', '.join(slower)}; allowed: {options.at_most}" if slower else 0)


if __name__ == "__main__":
    main()
