"""CPU time of receiving an object by C-STORE, here and at another commit, in turns.

    python benchmarks/receive_cost.py COMMIT [--rounds 3] [--slices 200] [--senders 1 4 20] [--side 512]

The receiver alone (association, spool, intake, database) in a process of its own, COMMIT in its own files; the senders
are dcmtk's storescu, whose time is not counted. Printed are the smallest CPU-ms per object of all rounds, since what
else the machine does can only add, and their ratio. Every object sent is a row and a file at the end, or it fails.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from node_load import Load, free_port

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
from pathlib import Path
from service.receiving import receiving
from iscl_monai.service import log
from iscl_monai.service.settings import Settings
log.set_up("CRITICAL")
with receiving(Settings.model_validate_json(Path(sys.argv[1]).read_text())) as door:
    door.echo()
    start = time.process_time()
    print("listens", flush=True)
    sys.stdin.readline()
    spent = time.process_time() - start
    files = {row["file"] for row in door.rows() if (door.settings.data / row["file"]).stat().st_size == row["size"]}
    print(spent, len(files), flush=True)
"""


def settings_of(folder: Path, port: int) -> Path:
    """Settings of a receiver, as a file."""
    scanner = {"name": "ct", "ae_title": "CT", "from_hosts": ["127.0.0.1"]}
    values = {
        "data": str(folder / "data"),
        "bundle": str(folder),
        "node": {"ae_title": "ISCL", "host": "127.0.0.1", "port": port, "max_associations": 60},
        "peers": [scanner],
        "rules": [{"name": "none", "process": False}],
        "disk": {"reserve_mb": 1, "resume_mb": 1},
    }
    (folder / "data").mkdir(parents=True)
    path = folder / "settings.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def cpu_ms(tree: Path, load: Load, folder: Path) -> float:
    """Milliseconds per object of a receiver with the files of a tree."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", CHILD, str(settings_of(folder, port))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    receiver = subprocess.Popen(command, env=environment, cwd=folder, text=True, **pipes)  # type: ignore[call-overload]
    assert receiver.stdout.readline() == "listens\n"
    load.send(port)
    answer, _ = receiver.communicate("\n")
    spent, stored = answer.split()
    if int(stored) != len(load.uids):
        sys.exit(f"{stored} of {len(load.uids)} objects were stored")
    return 1000 * float(spent) / len(load.uids)


def compare(commit: str, options: argparse.Namespace, place: Path) -> None:
    """Print the figures for each number of senders."""
    archive = subprocess.run(["git", "archive", commit, "iscl_monai"], cwd=ROOT, capture_output=True, check=True).stdout
    earlier = place / "earlier"
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(earlier, filter="data")
    print(f"{'senders':>8s}{'CPU-ms at ' + commit[:8]:>20s}{'here':>8s}{'times fewer':>13s}")
    for senders in options.senders:
        load = Load.made(place / f"load{senders}", options.slices, senders, options.side)
        taken = []
        for round_ in range(options.rounds):
            folder = place / f"{senders}-{round_}"
            taken.append([cpu_ms(tree, load, folder / tree.name) for tree in (earlier, ROOT)])
        before, after = (min(column) for column in zip(*taken, strict=True))
        print(f"{senders:8d}{before:20.2f}{after:8.2f}{before / after:13.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 4, 20])
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receive_cost-") as name:
        compare(options.commit, options, Path(name))


if __name__ == "__main__":
    main()
