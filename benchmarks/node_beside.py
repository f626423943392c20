"""What the node needs to take objects from many scanners at once, beside dcmtk's storescp and Orthanc, in one run.

    python benchmarks/node_beside.py                               # 5,000 of 512x512 by 20 senders; 8 GB of disk
    python benchmarks/node_beside.py --instances 1000 --side 256

Seconds, and CPU seconds of the receiving side alone, one after the other with the same load: storescp (one process for
each sender, flushes nothing), Orthanc with SyncStorageArea (flushes each file), the node (flushes each file and commits
before it answers), and the node again while another peer misbehaves all the while: it holds associations that say
nothing, opens connections that say nothing, sends junk, and begins objects that it does not end. Fails unless each
object that was sent is there with the same pixels. Ratios of one run compare; the figures themselves are the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from node_load import TOOLS, Load, Node, free_port, tiny_bundle, tool, until
from pynetdicom import AE

CT = "1.2.840.10008.5.1.4.1.1.2"
Deed = Callable[[int, threading.Event], None]
HELD, SILENT = 40, 300  # associations and connections that the misbehaving peer wants to hold


@dataclass(frozen=True)
class Taken:
    """What it took to take a load.

    Args:
        seconds: until the last sender had ended.
        cpu_s: of the receiving side, with its children.
    """

    seconds: float
    cpu_s: float


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process, its children that have ended, and those that go on."""
    times = process.cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        with contextlib.suppress(psutil.Error):
            spent += sum(child.cpu_times()[:2])
    return spent


def taken(load: Load, port: int, pid: int) -> Taken:
    """Send everything."""
    process = psutil.Process(pid)
    before = cpu_s(process)
    seconds = load.send(port)
    return Taken(seconds, cpu_s(process) - before)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[int]:
    """A program that listens; its process id. Its folder is removed at the end."""
    quick = {**os.environ, "TCP_NODELAY": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=quick, stdout=log, stderr=log)
    try:
        until(lambda: listens(port), longest_s=60)
        yield process.pid
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def storescp(load: Load, folder: Path) -> Taken:
    """By dcmtk."""
    port = free_port()
    (folder / "files").mkdir(parents=True)
    command = [tool("storescp"), "--fork", "-aet", "ISCL", "-od", str(folder / "files"), "+uf", str(port)]
    with serving(command, port, folder) as pid:
        found = taken(load, port, pid)
        assert len(list((folder / "files").iterdir())) == len(load.uids), "storescp has lost some"
    return found


def orthanc(load: Load, folder: Path) -> Taken:
    """By Orthanc, with a thread for each sender, and every file flushed."""
    folder.mkdir()
    port, http = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "SyncStorageArea": True,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "DicomAet": "ISCL",
        "DicomPort": port,
        "DicomThreadsCount": len(load.folders) + 5,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with serving([tool("Orthanc"), str(folder / "orthanc.json")], port, folder) as pid:
        found = taken(load, port, pid)
        statistics = subprocess.run(
            ["curl", "-s", f"http://127.0.0.1:{http}/statistics"], capture_output=True, check=True
        )
        assert json.loads(statistics.stdout)["CountInstances"] == len(load.uids), "Orthanc has lost some"
    return found


def node(load: Load, folder: Path, bundle: Path, *, misbehaving: bool) -> Taken:
    """By the node, perhaps with a peer that misbehaves."""
    port = free_port()
    places = len(load.folders) + (HELD if misbehaving else 0)  # each peer is sure of one place, and no more
    server = Node(folder, bundle, port, through=False, destination=free_port(), associations=places)
    try:
        until(server.ready, longest_s=300)
        with misbehaving_peer(port) if misbehaving else contextlib.nullcontext():
            found = taken(load, port, server.process.pid)
        server.check_whole(load)
    finally:
        server.stop()
        shutil.rmtree(folder)
    return found


@contextlib.contextmanager
def misbehaving_peer(port: int) -> Iterator[None]:
    """A peer that is known (ORTHANC, from this machine) and does all it should not, in a process of its own."""
    command = [sys.executable, __file__, "--misbehave", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        yield
        assert process.poll() is None, "the misbehaving peer has ended"
    finally:
        process.kill()
        process.wait()


def misbehave(port: int) -> None:
    """Until it is killed."""
    deeds: list[Callable[[int, threading.Event], None]] = [
        hold_associations,
        hold_connections,
        send_junk,
        begin_objects,
    ]
    begun = [threading.Event() for _ in deeds]
    for deed, event in zip(deeds, begun, strict=True):
        threading.Thread(target=forever, args=(deed, port, event), daemon=True).start()
    for event in begun:
        event.wait()
    print("begun", flush=True)
    threading.Event().wait()


def forever(deed: Deed, port: int, begun: threading.Event) -> None:
    pause = threading.Event()
    while True:
        with contextlib.suppress(Exception):  # it is thrown out, and comes again
            deed(port, begun)
        begun.set()
        pause.wait(0.1)


def associated(port: int) -> AE:
    ae = AE("ORTHANC")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(CT)
    return ae.associate("127.0.0.1", port, ae_title="ISCL")


def hold_associations(port: int, begun: threading.Event) -> None:
    """As many as it gets, and then a C-ECHO nowhere: they only hold their places."""
    held = []
    while len(held) < HELD:
        association = associated(port)
        if not association.is_established:
            break
        held.append(association)
    begun.set()
    threading.Event().wait(5)
    for association in held:
        association.abort(block=False)


def hold_connections(port: int, begun: threading.Event) -> None:
    """Connections that never send an A-ASSOCIATE-RQ."""
    with contextlib.ExitStack() as held:
        for _ in range(SILENT):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        begun.set()
        threading.Event().wait(3)


def send_junk(port: int, begun: threading.Event) -> None:
    """Bytes that are no PDU, and PDUs that announce what they do not hold."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        begun.set()
        kind = random.choice([b"\1", b"\4", random.randbytes(1)])
        connection.sendall(kind + b"\0" + random.randbytes(4) + random.randbytes(random.randrange(2**16)))
        connection.recv(1)


def begin_objects(port: int, begun: threading.Event) -> None:
    """A C-STORE whose data set stops in the middle."""
    association = associated(port)
    begun.set()
    if not association.is_established:
        return
    command = bytes.fromhex("00000000040000003c000000") + b"\0\0\2\0\x1a\0\0\0" + CT.encode() + b"\0"
    value = bytes([1, 1]) + command
    pdv = (len(value) + 1).to_bytes(4, "big") + value
    connection = association.dul.socket.socket
    connection.sendall(b"\4\0" + len(pdv).to_bytes(4, "big") + pdv)
    threading.Event().wait(1)
    association.abort(block=False)


def report(found: dict[str, Taken], load: Load) -> None:
    print(f"{len(load.uids)} objects, {load.bytes >> 20} MiB, {len(load.folders)} senders, {os.cpu_count()} cores")
    print(f"{'':28s}{'s':>8s}{'CPU s':>8s}{'CPU-ms each':>13s}{'time / storescp':>17s}{'time / Orthanc':>16s}", end="")
    print(f"{'CPU / storescp':>16s}{'CPU / Orthanc':>15s}")
    for name, one in found.items():
        line = f"{name:28s}{one.seconds:8.1f}{one.cpu_s:8.1f}{1000 * one.cpu_s / len(load.uids):13.2f}"
        beside = [found["storescp"], found["Orthanc"]]
        times = [one.seconds / other.seconds for other in beside]
        work = [one.cpu_s / other.cpu_s for other in beside]
        print(f"{line}{times[0]:17.2f}{times[1]:16.2f}{work[0]:16.2f}{work[1]:15.2f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=5000)
    parser.add_argument("--associations", type=int, default=20)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--place", type=Path, help="folder on the disk to measure; default: that for temporary files")
    parser.add_argument("--misbehave", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.misbehave:
        misbehave(options.misbehave)
        return
    assert shutil.which("curl", path=TOOLS), "curl is needed"
    needed = options.instances * (2 * options.side**2 + 2048) * 2 + 2 * 2**30
    with tempfile.TemporaryDirectory(dir=options.place, prefix="node_beside-") as name:
        place = Path(name)
        if shutil.disk_usage(place).free < needed:
            sys.exit(f"{needed >> 20} MB are needed in {place.parent}")
        load = Load.made(place / "load", options.instances, options.associations, options.side)
        bundle = tiny_bundle(place / "bundle")
        found = {
            "storescp": storescp(load, place / "storescp"),
            "Orthanc": orthanc(load, place / "orthanc"),
            "node": node(load, place / "node", bundle, misbehaving=False),
            "node, a peer misbehaves": node(load, place / "node2", bundle, misbehaving=True),
        }
    report(found, load)


if __name__ == "__main__":
    main()
