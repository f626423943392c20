"""Change the code in one place at a time and see whether a test notices: ``make mutants``.

No test of pytest: it takes half an hour. mutmut makes the mutants of each file in ``tool.mutants`` of pyproject.toml
and runs, for each, those of the tests named there that reach its function, the fast ones first. Each file has a
workshop of its own below ``mutants/``. A run that was stopped goes on where it was; what survived is tried again, since
tests may have come. What was killed stays so until its function changes: remove the workshop to begin anew.

mutmut leaves alone: constants of a module or class, and functions with a decorator such as ``@property``.

The exit code is 1 if a file or all together lie below the floor, or if time ran out before every mutant was tried.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
MUTMUT = Path(sys.executable).with_name("mutmut")
SOURCES = ("iscl_monai", "data_prep", "bundles", "tests")

STATUS = {0: "survived", 1: "killed", 3: "killed", 33: "no test", 36: "timeout", -24: "timeout", 24: "timeout"}
"""What mutmut's exit codes mean; others are crashes, which no test has noticed. None was not tried yet."""
KILLED = ("killed", "timeout")  # a mutant that never ends does not pass its tests either
COLUMNS = "{:24} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}"


class Workshop:
    """Where the mutants of one file are made and tried.

    Args:
        source: the file, relative to the root.
        tests: that are its own, likewise.
    """

    def __init__(self, source: str, tests: list[str]) -> None:
        self.source = source
        self.tests = tests
        self.folder = ROOT / "mutants" / source.removesuffix(".py").replace("/", ".")
        self.record = self.folder / "mutants" / f"{source}.meta"

    def prepare(self) -> None:
        """Lay out what mutmut copies, and its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in SOURCES:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(ROOT / name)
        lines = f"only_mutate = {json.dumps([self.source])}\n"
        lines += f"pytest_add_cli_args_test_selection = {json.dumps(self.tests)}\n"
        settings = PYPROJECT.read_text(encoding="utf-8").replace("[tool.mutmut]\n", f"[tool.mutmut]\n{lines}")
        (self.folder / "pyproject.toml").write_text(settings, encoding="utf-8")
        shutil.rmtree(self.folder / "mutants" / "tests", ignore_errors=True)  # mutmut copies, but removes nothing
        self._forget_survivors()

    def _forget_survivors(self) -> None:
        if self.record.exists():
            record = json.loads(self.record.read_text(encoding="utf-8"))
            codes = record["exit_code_by_key"]
            codes.update({name: None for name, code in codes.items() if STATUS.get(code) not in KILLED})
            self.record.write_text(json.dumps(record, indent=4), encoding="utf-8")

    def run(self, seconds: float) -> None:
        """Let mutmut work until it is done or the time is over; what it found is kept.

        Raises:
            SystemExit: if mutmut could not begin, mostly since a test fails without any mutant.
        """
        # Forked children inherit no thread pools, and a mutant's tests are small.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        command = [MUTMUT, "run", "--max-children", "1"]
        with (self.folder / "log.txt").open("w") as log:
            run = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                code = run.wait(max(1.0, seconds))
            except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
                run.send_signal(signal.SIGINT)
                code = run.wait(60)
                if isinstance(stopped, KeyboardInterrupt):
                    raise
        if code not in (0, -signal.SIGINT):
            raise SystemExit(f"mutmut ended with {code}, see {log.name}")

    def results(self) -> dict[str, int | None]:
        """Mutants by name, and how their tests ended."""
        found: dict[str, Any] = {}
        if self.record.exists():
            found = json.loads(self.record.read_text(encoding="utf-8"))["exit_code_by_key"]
        return found

    def count(self) -> Counter[str]:
        """How many mutants came to which end."""
        return Counter("untried" if code is None else STATUS.get(code, "crashed") for code in self.results().values())

    def show_survivors(self) -> None:
        """Print the change of each mutant that no test noticed."""
        for name, code in self.results().items():
            if code is not None and STATUS.get(code) not in KILLED:
                subprocess.run([MUTMUT, "show", name], cwd=self.folder, check=True)


def line(name: str, count: Counter[str], floor: float) -> bool:
    """Print a line of the table; True if it is good enough."""
    total, killed = count.total(), sum(count[end] for end in KILLED)
    score = 100 * killed / max(1, total)
    ends = [count[end] for end in ("killed", "timeout", "survived", "no test", "crashed", "untried")]
    print(COLUMNS.format(name, total, *ends[:3], ends[3] + ends[4], ends[5], f"{score:.1f} %"))
    return count["untried"] == 0 and total > 0 and score >= floor


def table(workshops: list[Workshop], floor: float) -> bool:
    """Print a line per file, and one for all; True if all is good enough."""
    print(COLUMNS.format("file", "mutants", "killed", "timeout", "survived", "no test", "untried", "score"))
    every = sum((workshop.count() for workshop in workshops), Counter[str]())
    lines = [line(workshop.source.removeprefix("iscl_monai/"), workshop.count(), floor) for workshop in workshops]
    return all([*lines, line("all", every, floor)])


def chosen(words: list[str]) -> list[Workshop]:
    """The files of the table whose name has one of the words in it; all without any."""
    files = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["mutants"]
    names = [name for name in files if not words or any(word in name for word in words)]
    if not names:
        raise SystemExit(f"{', '.join(words)} fits no file; allowed: parts of {', '.join(files)}")
    return [Workshop(name, files[name]) for name in names]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="parts of the names of those to try, e.g. hu")
    parser.add_argument("--floor", type=float, default=90.0, help="percent of mutants to kill, per file and in all")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which the run stops, to be continued")
    parser.add_argument("--show", action="store_true", help="print the survivors' changes; run nothing")
    arguments = parser.parse_args()
    workshops = chosen(arguments.files)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored, by mutmut, too
    end = time.monotonic() + arguments.minutes * 60
    for workshop in workshops:
        if arguments.show:
            workshop.show_survivors()
        else:
            workshop.prepare()
            workshop.run(end - time.monotonic())
            line(workshop.source.removeprefix("iscl_monai/"), workshop.count(), arguments.floor)
    return 0 if table(workshops, arguments.floor) else 1


if __name__ == "__main__":
    sys.exit(main())
