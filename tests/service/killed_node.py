"""Run a node that kills itself, as a power cut would, when a row makes a chosen move.

``python killed_node.py SETTINGS.json TABLE:BEFORE->AFTER:PHASE``; PHASE is ``before`` or ``after`` the commit. The
moves of the worker process are watched in there, and take the node with them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def killer(kill_at: str, victims: list[int]) -> Any:
    """An observer of moves that ends everything at the chosen one."""
    if not kill_at:
        return None
    where, _, phase = kill_at.rpartition(":")

    def watch(move: Any, committed: bool) -> None:
        if where == f"{move.table}:{move.before}->{move.after}" and committed == (phase == "after"):
            for victim in victims:
                os.kill(victim, signal.SIGKILL)

    return watch


def node(settings_file: str, kill_at: str) -> None:
    from iscl_monai.service import log, supervisor
    from iscl_monai.service.node import Node
    from iscl_monai.service.settings import Settings

    log.set_up()
    log.log.info("node.starts")
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        if command[-1] == "iscl_monai.service.worker":
            command = [sys.executable, __file__, "worker", kill_at]
        return start(command, **options)

    supervisor.subprocess.Popen = popen  # type: ignore[misc, assignment]
    settings = Settings.model_validate_json(Path(settings_file).read_text(encoding="utf-8"))
    Node(settings, watch=killer(kill_at, [os.getpid()])).run()


def worker(kill_at: str) -> int:
    from iscl_monai.service import worker as real
    from iscl_monai.service.store import Store

    watch = killer(kill_at, [os.getppid(), os.getpid()])

    class Watched(Store):
        def __init__(self, data: Path) -> None:
            super().__init__(data)
            if watch is not None:
                self.observe(watch)

    real.Store = Watched  # type: ignore[misc]
    real._flush_each_line()
    return real.main()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        sys.exit(worker(sys.argv[2]))
    node(sys.argv[1], sys.argv[2])
