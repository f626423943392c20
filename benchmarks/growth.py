"""How CPU time and peak memory of `denoise` grow with the slices of a series and their size.

    python benchmarks/growth.py [--slices 10 100 1000] [--sides 256 512 1024] [--side 512] [--out growth.json]

Each point is a process of its own that denoises a made-up series with the released student, import and loading
included. Prints a table, and fails when memory is not flat: more than 5 % from the second to the last number of slices,
or 450 MiB and more for the long series.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made_up_series import make_series

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "iscl"
FLAT, MOST_MIB = 1.05, 450


def child(place: Path) -> None:
    """Denoise, then print CPU seconds and peak memory in MiB."""
    from iscl_monai.inference import Denoiser, denoise_series

    denoiser = Denoiser.from_bundle(BUNDLE, device="cpu", weights="student")
    denoise_series(place / "in", place / "out", denoiser=denoiser, workers=2)
    # Not ru_maxrss: a process begins with the peak of the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"cpu_s": time.process_time(), "peak_mib": int(status["VmHWM"].split()[0]) / 1024}))


def point(slices: int, side: int) -> dict[str, float]:
    """One series."""
    with tempfile.TemporaryDirectory() as place:
        make_series(Path(place) / "in", slices, side)
        words = [sys.executable, __file__, "--child", place]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    return {"slices": slices, "side": side, **json.loads(done.stdout.splitlines()[-1])}


def fault(points: list[dict[str, float]]) -> str:
    """What is wrong with the memory of ever longer series; nothing when it is flat."""
    if len(points) < 2:
        return ""
    before, last = points[-2]["peak_mib"], points[-1]["peak_mib"]
    if last > FLAT * before:
        return f"memory grows from {before:.0f} to {last:.0f} MiB; allowed: {FLAT} times"
    return f"{last:.0f} MiB; allowed: less than {MOST_MIB}" if last >= MOST_MIB else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--sides", type=int, nargs="*", default=[256, 512, 1024], help="of series of the first number")
    parser.add_argument("--side", type=int, default=512, help="of the series of several numbers of slices")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    points = []
    for slices, side in [(n, options.side) for n in options.slices] + [(options.slices[0], n) for n in options.sides]:
        points.append(point(slices, side))
        print("{slices:6d} slices of {side:4d} px: {cpu_s:8.1f} CPU-s, peak {peak_mib:5.0f} MiB".format(**points[-1]))
        sys.stdout.flush()
    if options.out:
        options.out.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    sys.exit(fault(points[: len(options.slices)]))


if __name__ == "__main__":
    main()
