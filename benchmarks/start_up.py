"""CPU seconds of new processes: what `iscl-monai denoise` costs before and beside its slices.

    python benchmarks/start_up.py [--rounds 3] [--out start.json]

`import torch` is the unit, all in turns. Fails where one slice takes more than twice that.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from made_up_series import make_series

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "iscl"
UNIT, ONE_SLICE = "import torch", "denoise, one slice of 512x512, ensemble"
AT_MOST = 2.0


def commands(place: Path) -> dict[str, list[str]]:
    """What is timed; some are refused, as they should be."""
    denoise = [sys.executable, "-m", "iscl_monai.cli", "denoise", "--bundle", str(BUNDLE), "--device", "cpu"]
    (place / "empty").mkdir()
    make_series(place / "scan", 1)
    return {
        UNIT: [sys.executable, "-c", "import torch"],
        ONE_SLICE: [*denoise, str(place / "scan"), str(place / "out")],
        "denoise --dry-run": [*denoise, "--dry-run", str(place / "scan"), str(place / "dry")],
        "denoise of a folder without a series": [*denoise, str(place / "empty"), str(place / "out")],
        "denoise of a folder that is not there": [*denoise, str(place / "missing"), str(place / "out")],
    }


def cpu_s(words: list[str]) -> float:
    """Of a process and those it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as place:
            for name, words in commands(Path(place)).items():
                seconds.setdefault(name, []).append(cpu_s(words))
    unit = seconds[UNIT]
    rows = [
        {
            "command": name,
            "cpu_s": statistics.median(taken),
            "of_import_torch": statistics.median(one / base for one, base in zip(taken, unit, strict=True)),
        }
        for name, taken in seconds.items()
    ]
    print("| | CPU-s | of `import torch` |\n|---|---|---|")
    for row in rows:
        print("| {command} | {cpu_s:.2f} | {of_import_torch:.2f} |".format(**row))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    slow = next(row["of_import_torch"] for row in rows if row["command"] == ONE_SLICE)
    sys.exit(f"{ONE_SLICE}: {slow:.2f} times import torch; allowed: {AT_MOST}" if slow > AT_MOST else "")


if __name__ == "__main__":
    main()
