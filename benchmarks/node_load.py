"""What the node takes from many scanners at once, beside what dcmtk's storescp takes, and what becomes of it.

    python benchmarks/node_load.py                              # 5,000 of 512x512 by 20 senders; 5 GB of disk
    python benchmarks/node_load.py --instances 1000 --associations 5
    python benchmarks/node_load.py --through --instances 500    # 128x128, denoised and sent to an Orthanc

Asserts that nothing is lost: every object that was sent is a row and a file with the same bytes of pixels; with
``--through``, that the archive has one derived object for each. Prints the rates of the node and of storescp (one
process for each sender, as it forks; it does not flush anything to the disk), the node's memory over the run, and how
much its disk takes for the same bytes, written and flushed file by file. Everything stays on this machine, is removed
at the end, and takes half an hour at most; the senders are dcmtk's storescu. Nothing but noise is sent, which does not
get smaller by compression anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from made_up_series import make_noise

ROOT = Path(__file__).resolve().parents[1]
TOOLS = "/usr/bin:/usr/sbin:/usr/local/bin"  # never a virtual environment's: pynetdicom has a storescu of its own
LONGEST_S = 1800.0
LOOKS_EVERY_S = 0.5


def tool(name: str) -> str:
    found = shutil.which(name, path=TOOLS)
    if found is None:
        sys.exit(f"{name} is not in {TOOLS}; on Debian: apt install dcmtk orthanc")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: Callable[[], Any], state: Callable[[], str] = str, longest_s: float = LONGEST_S) -> Any:
    end = time.monotonic() + longest_s
    while not (answer := what()):
        if time.monotonic() > end:
            raise TimeoutError(f"it did not come to an end: {state()}")
        time.sleep(0.05)
    return answer


# --- what is sent -----------------------------------------------------------------------------------


@dataclass
class Load:
    """What goes out: a folder for each sender."""

    folders: list[Path]
    uids: set[str]
    bytes: int

    @staticmethod
    def made(place: Path, instances: int, associations: int, side: int) -> Load:
        counts = [instances // associations + (index < instances % associations) for index in range(associations)]
        folders = [place / f"sender{index:03d}" for index in range(associations)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(make_noise, folders, counts, [side] * associations, range(associations)))
        size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
        return Load(folders, {uid for uids in made for uid in uids}, size)

    def send(self, port: int) -> float:
        """All senders at once; the seconds until the last has ended."""
        start = time.monotonic()
        command = [tool("storescu"), "-R", "-aet", "CT", "-aec", "ISCL", "127.0.0.1", str(port), "+sd"]
        quick = {**os.environ, "TCP_NODELAY": "1"}  # without it dcmtk waits 40 ms before each answer is asked for
        senders = [subprocess.Popen([*command, folder], env=quick) for folder in self.folders]
        try:
            for sender in senders:
                if sender.wait(max(1.0, start + LONGEST_S - time.monotonic())):
                    raise RuntimeError(f"a sender ended with {sender.returncode}")
        finally:
            for sender in senders:
                if sender.poll() is None:
                    sender.kill()
        return time.monotonic() - start


# --- who takes it -----------------------------------------------------------------------------------


@dataclass
class Watch:
    """The memory and work of processes while something goes on."""

    pid: int
    count: Callable[[], int]
    samples: list[dict[str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, over: threading.Event) -> None:
        start, process = time.monotonic(), psutil.Process(self.pid)
        last = False
        while True:
            with contextlib.suppress(psutil.Error):
                memory, work = process.memory_info(), process.cpu_times()
                workers = sum(child.memory_info().rss for child in process.children(recursive=True))
                figures = {"seconds": time.monotonic() - start, "instances": self.count()}
                sizes = {"node_mib": memory.rss / 2**20, "worker_mib": workers / 2**20}
                more = {"cpu_s": work.user + work.system, "threads": process.num_threads()}
                self.samples.append({**figures, **sizes, **more})
            if last:
                return
            last = over.wait(LOOKS_EVERY_S)


class Node:
    """The whole node as a process of its own, as ``iscl-monai serve`` starts it."""

    def __init__(
        self, folder: Path, bundle: Path, port: int, *, through: bool, destination: int, associations: int
    ) -> None:
        folder.mkdir()
        self.data, self.port, self.web_port = folder / "data", port, free_port()
        settings = {
            "data": str(self.data),
            "bundle": str(bundle),
            "node": {"host": "127.0.0.1", "port": self.port, "max_associations": associations + 5},
            "peers": [
                {"name": "ct", "ae_title": "CT", "may_send": True, "from_hosts": ["127.0.0.1"]},
                {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": destination, "may_send": True,
                 "from_hosts": ["127.0.0.1"]},
            ],
            "rules": [{"name": "all", "process": through, "when": {"Modality": "CT"}, "quiet_s": 5}
                      | ({"send_to": ["pacs"]} if through else {})],
            "work": {"device": "cpu"},
            "web": {"port": self.web_port},
        }  # fmt: skip
        configuration = folder / "node.json"
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        program = (
            "import sys; from pathlib import Path; from iscl_monai.service.settings import Settings;"
            "from iscl_monai.service.node import serve; path = Path(sys.argv[1]);"
            "serve(Settings.model_validate_json(path.read_text()), path)"
        )
        self._log = (folder / "node.log").open("wb")
        self.log_path = folder / "node.log"
        command = [sys.executable, "-c", program, str(configuration)]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd=ROOT)

    def ready(self) -> bool:
        log = self.log_path.read_text(errors="replace")
        if self.process.poll() is not None:
            raise RuntimeError(log[-3000:])
        return '"node.started"' in log and '"worker.ready"' in log

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        place = f"file:{self.data / 'node.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=60)) as database:
            return list(database.execute(statement))

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM instances")[0][0])

    def check_whole(self, load: Load) -> None:
        """Rows, files and what was sent are the same set."""
        rows = dict(self.rows("SELECT sop_instance_uid, file FROM instances"))
        assert set(rows) == load.uids, (
            f"{len(load.uids - set(rows))} objects lost, {len(set(rows) - load.uids)} made up"
        )
        files = {str(path.relative_to(self.data)) for path in (self.data / "sources").rglob("*") if path.is_file()}
        assert files == set(rows.values()), "files and rows differ"
        assert not list((self.data / "coming").iterdir()), "something is left half"
        sent = {path.read_bytes()[-1000:] for folder in load.folders for path in folder.iterdir()}
        assert sent == {(self.data / name).read_bytes()[-1000:] for name in files}, "pixels differ"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


def storescp(load: Load, place: Path) -> float:
    """The seconds that dcmtk takes for the same load, by one process for each sender."""
    place.mkdir()
    port = free_port()
    command = [tool("storescp"), "--fork", "-aet", "ISCL", "-od", place, "+uf", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, start_new_session=True)
    try:
        until(lambda: _listens(port), longest_s=30)
        seconds = load.send(port)
        assert len(list(place.iterdir())) == len(load.uids)
        return seconds
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(place)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def flushed_copies(load: Load, place: Path) -> float:
    """The seconds that the disk takes at least: each file written, flushed and renamed, one after the other."""
    place.mkdir()
    start = time.monotonic()
    for folder in load.folders:
        for index, path in enumerate(sorted(folder.iterdir())):
            part = place / "part"
            with part.open("wb") as file:
                file.write(path.read_bytes())
                file.flush()
                os.fsync(file.fileno())
            part.rename(place / f"{folder.name}-{index}")
    seconds = time.monotonic() - start
    shutil.rmtree(place)
    return seconds


# --- and through ------------------------------------------------------------------------------------


@contextlib.contextmanager
def orthanc(folder: Path, node_port: int) -> Iterator[tuple[int, str]]:
    """An archive; its DICOM port and address."""
    folder.mkdir()
    port, http = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomModalities": {"iscl": {"AET": "ISCL", "Host": "127.0.0.1", "Port": node_port,
                                     "AllowStorageCommitment": True}},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([tool("Orthanc"), folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        until(lambda: _listens(port) and _listens(http), longest_s=60)
        yield port, f"http://127.0.0.1:{http}"
    finally:
        process.kill()
        process.wait()


def derived_sources(root: str) -> list[str]:
    """The source that each object of the archive names."""
    found = []
    with urllib.request.urlopen(f"{root}/instances", timeout=60) as answer:
        for name in json.load(answer):
            with urllib.request.urlopen(f"{root}/instances/{name}/simplified-tags", timeout=60) as tags:
                found.append(json.load(tags)["SourceImageSequence"][0]["ReferencedSOPInstanceUID"])
    return found


def through_to(root: str, node: Node, load: Load, start: float) -> float:
    """Wait until everything is denoised and committed, compare both sides; the seconds since the start."""

    def ended() -> bool:
        jobs = dict(node.rows("SELECT state, count(*) FROM jobs GROUP BY state"))
        return set(jobs) == {"done"} and jobs["done"] == len(load.folders)

    until(ended, lambda: str(node.rows("SELECT state, count(*) FROM jobs GROUP BY state")))
    seconds = time.monotonic() - start
    assert sorted(derived_sources(root)) == sorted(load.uids), "the archive has not one derived object for each"
    return seconds


# --- the run ----------------------------------------------------------------------------------------


def tiny_bundle(folder: Path) -> Path:
    sys.path.insert(0, str(ROOT / "tests"))
    from inference.tiny import make_bundle

    return make_bundle(folder)


def measured(load: Load, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides with the same load, one after the other."""
    figures: dict[str, Any] = {
        "instances": len(load.uids),
        "associations": len(load.folders),
        "mib": load.bytes / 2**20,
        "cores": os.cpu_count(),
    }
    figures["flushed_copies_s"] = flushed_copies(load, place / "copies")
    figures["storescp_s"] = storescp(load, place / "storescp")
    port = free_port()
    with orthanc(place / "orthanc", port) as (destination, root):
        bundle = tiny_bundle(place / "bundle")
        more = {"through": options.through, "destination": destination, "associations": len(load.folders)}
        node = Node(place / "node", bundle, port, **more)
        try:
            until(node.ready, longest_s=120)
            watch = Watch(node.process.pid, node.count)
            with watch.on():
                start = time.monotonic()
                figures["node_s"] = load.send(port)
                received = len(watch.samples)
                if options.through:
                    figures["through_s"] = through_to(root, node, load, start)
            node.check_whole(load)
        finally:
            node.stop()
    figures["samples"] = watch.samples
    figures["received_samples"] = received
    return figures


def report(figures: dict[str, Any]) -> None:
    count, samples = figures["instances"], figures["samples"]
    print(
        f"{count} instances, {figures['mib']:.0f} MiB, {figures['associations']} associations, {figures['cores']} cores"
    )
    print(f"{'':34s}{'s':>8s}{'per s':>8s}{'MiB/s':>8s}")
    names = {
        "flushed_copies_s": "disk: written and flushed, 1 by 1",
        "storescp_s": "storescp --fork, nothing flushed",
        "node_s": "node: flushed, committed, answered",
        "through_s": "node: denoised, sent, committed",
    }
    for key, name in names.items():
        if key in figures:
            print(f"{name:34s}{figures[key]:8.1f}{count / figures[key]:8.1f}{figures['mib'] / figures[key]:8.1f}")
    print(f"node / storescp in time: {figures['node_s'] / figures['storescp_s']:.2f}; nothing was lost")
    print(f"{'received':>9s}{'s':>8s}{'per s':>8s}{'CPU s':>8s}{'node MiB':>9s}{'worker MiB':>11s}{'threads':>9s}")
    before = samples[0]
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        now = next(one for one in samples if one["instances"] >= share * count)
        rate = (now["instances"] - before["instances"]) / max(1e-9, now["seconds"] - before["seconds"])
        print(
            f"{now['instances']:9.0f}{now['seconds']:8.1f}{rate:8.1f}{now['cpu_s'] - samples[0]['cpu_s']:8.1f}"
            f"{now['node_mib']:9.0f}{now['worker_mib']:11.0f}{now['threads']:9.0f}"
        )
        before = now
    peaks = {name: max(one[name] for one in samples) for name in ("node_mib", "worker_mib")}
    print(f"peak: node {peaks['node_mib']:.0f} MiB, worker {peaks['worker_mib']:.0f} MiB")


def main() -> None:
    """Measure, print, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=5000)
    parser.add_argument("--associations", type=int, default=20)
    parser.add_argument("--side", type=int, help="pixels; default 512, and 128 with --through")
    parser.add_argument("--through", action="store_true", help="also denoise and send to an Orthanc")
    parser.add_argument("--place", type=Path, help="folder on the disk to measure; default: that for temporary files")
    parser.add_argument("--out", type=Path, default=Path("node_load.json"))
    options = parser.parse_args()
    if not 1 <= options.associations <= min(options.instances, 200) or options.instances > 100_000:
        parser.error("1 to 200 associations, and no more than there are instances; 100,000 instances at most")
    side = options.side or (128 if options.through else 512)
    needed = options.instances * (2 * side**2 + 2048) * (4 if options.through else 2)
    with tempfile.TemporaryDirectory(dir=options.place, prefix="node_load-") as name:
        place = Path(name)
        if shutil.disk_usage(place).free < needed + 6 * 2**30:  # the node keeps some room by itself
            sys.exit(f"{needed >> 20} MB and 6 GB to spare are needed in {place.parent}")
        load = Load.made(place / "load", options.instances, options.associations, side)
        figures = measured(load, place, options)
    report(figures)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"every sample is in {options.out}")


if __name__ == "__main__":
    main()
