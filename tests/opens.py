"""How often files are opened: counted by an audit hook, in a process of its own since hooks stay for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COUNTING = (
    f"TESTS = {str(Path(__file__).parent)!r}"
    + """
import collections, importlib, json, os, sys
sys.path.insert(0, TESTS)
folder, function, *commands = sys.argv[1:]
module, name = function.split(":")
run = getattr(importlib.import_module(module), name)
opened = collections.Counter()

def count(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(folder + os.sep):
            opened[os.path.relpath(path, folder)] += 1

sys.addaudithook(count)
counts = []
for command in commands:
    opened.clear()
    try:
        code = run(json.loads(command))
    except SystemExit as end:
        code = end.code
    assert not code, code
    counts.append(dict(opened))
print(json.dumps(counts))
"""
)


def opens(folder: Path, function: str, *commands: Sequence[object]) -> list[dict[str, int]]:
    """For each command, how often each file below a folder was opened; files that were not are left out.

    Args:
        folder: what is counted.
        function: ``module:name`` of a function that takes the words of a command and gives an exit code.
        commands: the words of each, run one after the other in one process.
    """
    words = [json.dumps([str(word) for word in command]) for command in commands]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNTING, str(folder.absolute()), function, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: list[dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return counts
