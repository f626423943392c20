"""``data_prep scan``: headers per second and core, and how time grows with the number of files.

    python benchmarks/scan_archive.py
    python benchmarks/scan_archive.py --files 20000 --source /data/ct/some-series

An archive is made of copies of real slices with new UIDs (pixels and all), then read without its pixels, by one
process, with the cache on disk as always: N files, then 2 N. Prints headers per CPU second, which is what one core
reads, and time for 2 N over time for N: 2 is linear.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from data_prep.archive.pseudonym import Pseudonyms
from data_prep.archive.store import Store
from data_prep.archive.survey import read_archive
from iscl_monai.dicom.series import find_series

SERIES = 300
"""Files of one series: a folder each."""
CACHE = Path.home() / ".cache/iscl-monai-data/lidc_idri_0314"


def make_archive(folder: Path, sources: list[bytes], uids: list[tuple[str, str]], files: int) -> None:
    """Copies that differ in their UIDs, put into the bytes: no element changes its length."""
    for start in range(0, files, SERIES):
        below = folder / f"{start:07d}"
        below.mkdir(parents=True)
        series = generate_uid()
        for index, place in zip(range(start, min(start + SERIES, files)), itertools.cycle(range(len(sources)))):
            (instance, old), data = uids[place], sources[place]
            for uid, new in ((instance, generate_uid()), (old, series)):
                data = data.replace(uid.encode(), new[: len(uid)].ljust(len(uid), "1").encode())
            (below / f"{index:07d}.dcm").write_bytes(data)


def seconds(archive: Path, out: Path) -> tuple[float, float, int]:
    """CPU and wall-clock seconds of reading all headers, and how many files there were."""
    out.mkdir()
    cpu, wall = time.process_time(), time.perf_counter()
    store = Store(out / "headers.sqlite", "benchmark")
    read_archive(archive, store, pseudonyms=Pseudonyms(bytes(32)))
    count = sum(len(records) for records, _ in store.series())
    taken = time.process_time() - cpu, time.perf_counter() - wall, count
    store.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--source", type=Path, default=CACHE, help="folder of one CT series")
    parser.add_argument(
        "--folder", type=Path, help="where to make the archive (default: the folder for temporary files)"
    )
    arguments = parser.parse_args()
    headers = [header for one in find_series(arguments.source).series for header in one.headers][:SERIES]
    sources = [header.path.read_bytes() for header in headers]
    uids = [(str(dcmread(one.path, stop_before_pixels=True).SOPInstanceUID), one.series_uid) for one in headers]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        work = Path(name)
        sizes = (arguments.files, 2 * arguments.files)
        for files in sizes:
            make_archive(work / str(files), sources, uids, files)
        best: dict[int, float] = {}
        for round_ in range(arguments.rounds):
            for files in sizes:
                cpu, wall, count = seconds(work / str(files), work / f"out-{files}-{round_}")
                assert count == files
                best[files] = min(cpu, best.get(files, cpu))
                print(f"{files:7d} files: {files / cpu:6.0f} headers per CPU second, {files / wall:6.0f} per second")
        print(f"best: {sizes[1] / best[sizes[1]]:.0f} headers per second and core (300 wanted)")
        print(f"twice the files take {best[sizes[1]] / best[sizes[0]]:.2f} times as long")


if __name__ == "__main__":
    main()
