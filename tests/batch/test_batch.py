"""The command on Ray: actors that are killed, a driver that is killed, and what comes out is what ``denoise`` makes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch.archives import UID, Place, check_as_denoised, check_whole, small
from typer.testing import CliRunner

from iscl_monai.batch.denoise import denoise_archive
from iscl_monai.batch.ray_pool import RayPool
from iscl_monai.batch.run import Event
from iscl_monai.cli import app
from iscl_monai.errors import Refusal

pytestmark = pytest.mark.slow
SLOTS = range(40)
"""So many slices that a worker is in the middle of them when it is killed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster on this machine; its address."""
    ray = pytest.importorskip("ray")
    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["address"]
    ray.shutdown()


def killed_in_the_middle(place: Place, event: Event) -> None:
    """SIGKILL to the worker's process, as soon as the first slice of the series that it gets now is written."""
    assert event.series is not None
    beside, process = (place.out / "series" / event.series.result).parent, int(event.worker.rpartition(" ")[2])

    def kill() -> None:
        while psutil.pid_exists(process):
            if list(beside.glob(".*.partial/*.dcm")):
                os.kill(process, signal.SIGKILL)
                return

    threading.Thread(target=kill, daemon=True).start()


def test_killed_workers_lose_nothing_and_a_poisoned_series_ends_as_refused(
    place: Place, cluster: str, tmp_path: Path
) -> None:
    """One series ends its worker each time, another one the first time."""
    for number in (4, 5):
        small(number, slots=SLOTS, rows=64, columns=64).write(place.source / f"patient{number}")
    begun: list[str] = []

    def watch(event: Event) -> None:
        if event.kind != "begun" or event.series is None:
            return
        begun.append(event.series.series_uid)
        if begun[-1] == f"{UID}.4" or (begun[-1] == f"{UID}.5" and begun.count(begun[-1]) == 1):
            killed_in_the_middle(place, event)

    summary = denoise_archive(
        place.source,
        place.out,
        settings=place.settings,
        make_pool=lambda *given: RayPool(*given, workers=2),
        tries=2,
        watch=watch,
    )
    check_whole(place, {0, 1, 2, 3, 5}, {4})
    assert summary.run.deaths == 3
    assert "given up after 2 tries, the last: worker died: the worker died" in summary.refused[0].reason
    assert begun.count(f"{UID}.5") == 2
    for number in (2, 5):
        check_as_denoised(place, number, place.source / f"patient{number}", tmp_path / f"alone{number}")


def test_a_killed_driver_is_followed_by_one_that_goes_on(place: Place, cluster: str) -> None:
    small(4, slots=range(60), rows=64, columns=64).write(place.source / "patient4")
    small(5, rows=15).write(place.source / "narrow")
    arguments: list[Any] = [place.source, place.out, "--bundle", place.settings.bundle, "--device", "cpu"]
    command = [sys.executable, "-W", "ignore", "-m", "iscl_monai.cli", "batch", *arguments, "--address", cluster]
    with subprocess.Popen([*command, "--workers", "1"], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(place.out.glob("series/patient4/.*.partial/*.dcm")):
            os.sched_yield()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    finished = {path.parent for path in place.out.rglob("*.dcm") if not path.parent.name.startswith(".")}
    result = CliRunner().invoke(app, ["batch", *map(str, arguments), "--workers", "1"])
    assert result.exit_code == 3, result.output
    check_whole(place, {0, 1, 2, 3, 4}, {5})
    assert len(finished) == 4
    again = place.rows("SELECT series_uid FROM series JOIN attempts USING (key) WHERE number > 1")
    assert {uid for (uid,) in again} <= {f"{UID}.4"}, "what was finished is not done again"
    assert re.search(r"Denoised +5", result.stdout)
    assert re.search(r"^refused: .*Rows is 15; allowed: ", result.stdout, re.MULTILINE)


def test_more_workers_than_there_is_room_for_are_refused(place: Place, cluster: str) -> None:
    arguments = ["batch", place.source, place.out, "--bundle", place.settings.bundle, "--workers", "99"]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 2
    assert re.search(r"ConfigRefusal: 99 workers .*; allowed: 2 workers; do: give --workers 2", result.stderr)
    settings = ["--target-noise", "5"]  # which these weights cannot be told: the worker's refusal comes back as it is
    result = CliRunner().invoke(app, [*map(str, arguments[:-2]), "--workers", "1", *settings])
    assert result.exit_code == 2
    assert re.search(r"^ConfigRefusal: .*noise.*; allowed: .*; do: .*", result.stderr, re.MULTILINE)


def test_a_run_whose_workers_cannot_start_any_more_is_stopped(
    place: Place, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iscl_monai.batch.ray_pool.LOST", 1)
    bundle = Path(shutil.copytree(place.settings.bundle, place.out.with_name("bundle")))
    small(4, slots=SLOTS, rows=64, columns=64).write(place.source / "patient4")

    def watch(event: Event) -> None:
        if event.kind == "begun" and event.series is not None and event.series.series_uid == f"{UID}.4":
            shutil.rmtree(bundle)
            killed_in_the_middle(place, event)

    settings = replace(place.settings, bundle=bundle)
    with pytest.raises(Refusal, match=r"no worker can start any more \(CheckpointRefusal: .*; do: see to it"):
        denoise_archive(
            place.source,
            place.out,
            settings=settings,
            make_pool=lambda *given: RayPool(*given, workers=1),
            watch=watch,
        )
    assert sorted(place.states().values()) == ["done"] * 4 + ["waiting"]
