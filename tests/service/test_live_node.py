"""A node that runs as a process of its own takes new rules without a restart, and lets short series pass long ones."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psutil
from dicom.orthanc import Orthanc
from service.rows import new_uid, scan
from service.whole import NodeUnderTest, derived_sources, sent_uids, stopped_at_the_end, storescu, until

URGENT = {"name": "urgent", "when": {"SeriesDescription": "now"}, "priority": "urgent", "quiet_s": 0.2}
LONG = 24


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {as_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value)


def worker_of(node: NodeUnderTest) -> psutil.Process:
    (worker,) = psutil.Process(node.process.pid).children()  # type: ignore[union-attr]
    return worker


def job_of(node: NodeUnderTest, rule: str) -> dict[str, Any]:
    found = node.rows("SELECT id, state, rule FROM jobs WHERE rule = ?", rule)
    return found[0] if found else {"state": "", "id": 0}


def test_new_rules_by_signal_and_a_short_series_that_overtakes_a_long_one(
    pacs: Orthanc, bundle: Path, tmp_path: Path
) -> None:
    study = new_uid()
    long = scan(tmp_path / "long", LONG, uids=(study, new_uid()), rows=64, columns=64)
    short = scan(tmp_path / "short", 3, uids=(study, new_uid()), description="now")
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start(kill_at="jobs:queued->running:halt")
        new = node.settings()
        new["rules"].insert(0, URGENT | {"send_to": ["pacs"]})
        (node.folder / "node.toml").write_text("\n".join(f"{key} = {as_toml(one)}" for key, one in new.items()))
        node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        until(lambda: '"rules.reloaded"' in node.log or "not_reloaded" in node.log, lambda: node.log[-4000:])

        assert storescu(long, node.port)
        worker = worker_of(node)
        until(lambda: worker.status() == psutil.STATUS_STOPPED, lambda: node.log[-4000:])
        try:
            assert job_of(node, "all")["state"] == "running"  # and it stays so until the short one has come in
            assert storescu(short, node.port)
            until(lambda: job_of(node, "urgent")["state"] == "queued", lambda: node.log[-4000:])
        finally:
            worker.resume()
        node.wait_done(jobs=2)
        lines = [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]
        (interrupted,) = [line for line in lines if line["event"] == "job.interrupted"]
        assert (interrupted["job"], interrupted["by"]) == (job_of(node, "all")["id"], job_of(node, "urgent")["id"])
        order = [line["job"] for line in lines if line["event"] == "job.sending"]
        assert order == [interrupted["by"], interrupted["job"]]
        assert node.stop() == 0
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids([*long, *short]))
