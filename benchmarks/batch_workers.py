"""Two workers against one on the same archive, in turns; and what a slice costs there, planning and DICOM included.

python benchmarks/batch_workers.py ARCHIVE [--workers 1 2] [--rounds 2] [--weights student]

Wall seconds count from the first series handed out to the last one done: starting Ray and its workers is told apart. On
a machine that does other work, too, wall seconds say little. "CPU s" is what the ledger has: of the series that were
denoised; "all CPU s" is of the workers' processes over the same time, so that later plans are in it, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from iscl_monai.batch.denoise import denoise_archive
from iscl_monai.batch.ray_pool import RayPool
from iscl_monai.batch.run import Event
from iscl_monai.batch.worker import Settings
from iscl_monai.bundle import bundle_to_read


def measured(archive: Path, settings: Settings, workers: int) -> dict[str, float]:
    """Seconds of one run into a folder that is thrown away."""
    moments: dict[str, list[float]] = {}
    cpu_s: dict[int, tuple[float, float]] = {}  # of each process when it began, and now

    def note(event: Event) -> None:
        moments.setdefault(event.kind, []).append(time.monotonic())
        if event.worker:
            process = int(event.worker.rpartition(" ")[2])
            now = sum(psutil.Process(process).cpu_times()[:2])
            cpu_s[process] = (cpu_s.get(process, (now, now))[0], now)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        summary = denoise_archive(
            archive,
            Path(place) / "out",
            settings=settings,
            make_pool=lambda *given: RayPool(*given, workers=workers),
            watch=note,
        )
    wall_s = moments["done"][-1] - moments["begun"][0]
    return {
        "start_s": moments["looked"][0] - began,
        "wall_s": wall_s,
        "cpu_s": summary.cpu_s,
        "all_cpu_s": sum(after - before for before, after in cpu_s.values()),
        "slices": summary.slices,
        "series": summary.done,
        "bytes_per_slice": summary.result_bytes / summary.slices,
    }


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--weights", default=None)
    options = parser.parse_args()
    settings = Settings(bundle=bundle_to_read("--bundle").resolve(), device="cpu", weights=options.weights)
    print("workers series slices   start s    wall s     CPU s all CPU s CPU-s/slice  slices/s  kB/slice")
    for _ in range(options.rounds):
        for workers in options.workers:
            one = measured(options.archive, settings, workers)
            numbers = (one["start_s"], one["wall_s"], one["cpu_s"], one["all_cpu_s"])
            told = [f"{workers:7} {one['series']:6.0f} {one['slices']:6.0f}", *(f"{number:9.1f}" for number in numbers)]
            told.append(f"{one['cpu_s'] / one['slices']:11.3f} {one['slices'] / one['wall_s']:9.2f}")
            print(*told, f"{one['bytes_per_slice'] / 1e3:9.0f}", flush=True)


if __name__ == "__main__":
    main()
