"""Kills a node again and again under three senders, with a real Orthanc behind it, and counts what was lost.

    python benchmarks/node_kills.py [--kills 100] [--seed 1] [--episode-every 6] [--place FOLDER]

Each kill is a SIGKILL at a random moment: of the start, or while something chosen at random is going on. Every so often
comes a bad time instead (full disk, read-only database, read-only data folder, locked database, silent PACS), with a
kill in the middle of it. The data folder is a file system in a file, if one may be mounted (as root). Senders repeat
what was not acknowledged, as scanners do, and sometimes what was. Ends with an error unless every acknowledged object
is in the archive as exactly one derived object. Needs dcmtk and Orthanc; what is sent is synthetic.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from dicom.orthanc import Dicom, running  # noqa: E402
from inference.tiny import make_bundle  # noqa: E402
from service.bad_times import small_disk  # noqa: E402
from service.campaign import Campaign, Figures  # noqa: E402


def run(place: Path, options: argparse.Namespace) -> Figures:
    """A campaign in a folder."""
    with contextlib.ExitStack() as stack:
        own_disk = os.geteuid() == 0
        if own_disk:
            try:
                stack.enter_context(small_disk(place / "node" / "data", place / "disk"))
            except OSError as error:
                print(f"no disk of its own ({error}): only silent PACS and locked database", flush=True)
                own_disk = False
        (place / "pacs").mkdir()
        pacs = stack.enter_context(running(place / "pacs", Dicom()))
        campaign = Campaign(place, make_bundle(place / "bundle"), pacs, seed=options.seed, own_disk=own_disk)
        try:
            return campaign.run(options.kills, options.episode_every, lambda line: print(line, flush=True))
        except BaseException:
            print(campaign.node.log[-8000:], file=sys.stderr)
            raise


def main() -> None:
    """Run it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--episode-every", type=int, default=6, help="every how many kills; 0 for no bad times")
    parser.add_argument("--place", type=Path, help="where to work; default: that for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place, prefix="node_kills-") as name:
        figures = run(Path(name), options)
    print(figures.table())
    sys.exit(0 if figures.held else "acknowledged objects were lost, or are there twice, or something was left over")


if __name__ == "__main__":
    main()
