"""What every test gets: the same random numbers, one thread, and the marks of its folder."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch read it; programs that tests start inherit it

from tracing import untraced, untraced_programs  # first, as it imports other people's packages untraced

# isort: split
import numpy as np
import pytest
import torch
from hypothesis import Phase, settings
from made_once import made_once
from programs import Programs

# For `make mutants`: that a counterexample exists is enough, finding a small one takes most of the time.
settings.register_profile(
    "mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None, deadline=None
)

# Sums depend on the number of threads, small networks are slower with more, and pytest has a worker for every core.
torch.set_num_threads(1)

HERE = Path(__file__).parent

NODE = ("service",)
"""Folders whose tests have a node, or a part of it, and often a PACS beside it."""

SLOW = (
    "baselines/test_bm3d.py",
    "bundle",
    "data_prep/test_commands.py",
    "data_prep/test_dose_archive.py",
    "data_prep/test_dose_conformance.py",
    "data_prep/test_dose_identity.py",
    "data_prep/test_dose_opens.py",
    "data_prep/test_dose_real.py",
    "data_prep/test_dose_series.py",
    "data_prep/test_scan_real.py",
    "data_prep/test_truth.py",
    "dicom/test_conformance.py",
    "dicom/test_orthanc.py",
    "evaluation",
    "inference/test_cli.py",
    "inference/test_examples.py",
    "inference/test_export_formats.py",
    "inference/test_fuzz.py",
    "inference/test_opens.py",
    "inference/test_openvino_runtime.py",
    "inference/test_properties.py",
    "inference/test_start_up.py",
    "inference/test_verdicts.py",
    "phantom/test_phantom.py",
    "scanner/test_dose.py",
    "scanner/test_fda_phantom.py",
    "test_demo.py",
    "test_notebook.py",
)
"""Folders and files whose tests train, scan phantoms, start programs, look through real scans, or ask other people's
programs about every file; single tests of other files that do have the mark themselves."""

UNTRACED = (
    "baselines/test_bm3d.py",
    "data_prep/test_dose_conformance.py",
    "data_prep/test_dose_opens.py",
    "data_prep/test_scan_real.py",
    "data_prep/test_split_properties.py",
    "dicom/test_conformance.py",
    "evaluation/qa/test_cheats.py",
    "inference/test_fuzz.py",
    "inference/test_verdicts.py",
    "service/test_kill.py",
    "service/test_power.py",
)
"""Files whose tests run, with other data or over and over, code that other tests run, too."""

UNTRACED_PROGRAMS = (
    "batch/test_batch.py",
    "data_prep/test_commands.py",
    "dicom/test_one_pass.py",
    "evaluation/test_benchmark.py",
    "inference/test_cli.py",
    "inference/test_examples.py",
    "inference/test_incomplete.py",
    "inference/test_opens.py",
    "inference/test_properties.py",
    "inference/test_start_up.py",
    "phantom/test_phantom.py",
    "service/test_hostile_network.py",
    "test_configuration.py",
    "test_demo.py",
    "test_imports.py",
    "test_notebook.py",
)
"""Folders and files whose tests start programs that run such code."""

LONGEST = (
    "bundle/test_multi_gpu.py",
    "bundle/test_resume.py",
    "data_prep/test_commands.py",
    "data_prep/test_scan_real.py",
    "evaluation/test_benchmark.py",
    "inference/test_export_formats.py",
    "inference/test_fuzz.py",
    "test_demo.py",
)
"""Files with a test, or a fixture, of half a minute or more."""

MARKS = {"node": NODE, "slow": SLOW, "untraced": UNTRACED, "untraced_programs": UNTRACED_PROGRAMS}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test with the mark ``untraced`` runs without coverage, its fixtures too; or only the programs it starts do."""
    ways = {"untraced": untraced, "untraced_programs": untraced_programs}
    chosen = next((way for name, way in ways.items() if item.get_closest_marker(name)), nullcontext)
    with chosen():
        yield


@pytest.fixture(scope="session")
def test_objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick physics phantom of ``iscl-monai qa``; to be read only."""
    from iscl_monai.evaluation.qa import QUICK, make_phantom

    return made_once(tmp_path_factory, "test_objects", lambda folder: make_phantom(folder, QUICK))


@pytest.fixture(scope="session")
def tiny_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up patients of ``iscl-monai phantom DIR --size 96 --slices 2 --spacing 3.6``; to be read only."""
    from iscl_monai.phantom import make_dataset

    options = {"size": 96, "slices": 2, "spacing_mm": 3.6}
    return made_once(tmp_path_factory, "tiny_patients", lambda folder: make_dataset(folder, **options))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Starts ``python -m MODULE ...`` in an instant."""
    return Programs(tmp_path_factory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the marks of its place (a test may have more of its own), and have the longest begin first.

    A worker that begins a test of a minute when the others have no more works alone until it has ended.
    """
    items.sort(key=lambda item: item.path.relative_to(HERE).as_posix() not in LONGEST)
    for item in items:
        place = item.path.relative_to(HERE)
        for name, places in MARKS.items():
            if any(place.is_relative_to(one) for one in places):
                item.add_marker(name)
        if reads_real_scans(item):
            item.add_marker("real")


def reads_real_scans(item: pytest.Item) -> bool:
    """Whether its file, or what the fixture ``pair_of`` makes for it, is of real scans."""
    named = getattr(getattr(item, "module", None), "real", None)
    from_scans = getattr(named, "__module__", "").endswith("real_data")
    return from_scans or "pair_of" in getattr(item, "fixturenames", ())


# --- what was left out -------------------------------------------------------------------------------

LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        marks = [name for name in ("node", "slow") if item.get_closest_marker(name)]
        item.config.stash[LEFT_OUT][marks[0] if marks else "other"] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist; every worker has left out the same
def pytest_testnodedown(node: Any) -> None:
    counts = getattr(node, "workeroutput", {}).get("left out")
    if counts is not None:
        node.config.stash[LEFT_OUT] = Counter(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash[LEFT_OUT]
    if counts:
        names = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        terminalreporter.section("left out")
        terminalreporter.line(f"{counts.total()} tests were left out: {names}. All of them: make pytest")
