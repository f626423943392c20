"""What ``batch --dry-run`` says is what a run then does, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch.archives import UID, Place, contents

from iscl_monai.batch.dry_run import dry_run
from iscl_monai.cli import app
from iscl_monai.console import run


def test_a_run_does_what_was_planned(place: Place) -> None:
    (place.source / "patient1" / "notes.txt").write_text("x")
    for path in (place.source / "patient2").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    before = contents(place.source)
    folders: list[int] = []
    planned = dry_run(place.source, place.out, looked=folders.append)
    assert contents(place.source) == before
    assert not place.out.exists()
    assert sum(folders) == len(list(place.source.iterdir()))
    summary, _ = place.run()
    assert (len(planned.series), planned.slices) == (summary.done, summary.slices)
    assert len(planned.refused) == len(summary.refused) + len(summary.damaged_files)
    assert planned.skipped == summary.skipped_files
    assert planned.result_bytes > 0


def test_of_a_table_only_its_series_are_planned(place: Place, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    rows = [f"{place.source / 'patient1'},{UID}.1", f"{place.source / 'patient3'},1.2.3"]
    table.write_text("\n".join(["path,series_uid", *rows]) + "\n")
    planned = dry_run(table, place.out)
    assert [one.series_uid for one in planned.series] == [f"{UID}.1"]
    assert planned.absent == ["1.2.3"]


def test_the_command_tells_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["batch", str(place.source), str(place.out), "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert len(result["would_denoise"]) == 4
    assert not place.out.exists()
