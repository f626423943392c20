"""Three senders, a real Orthanc, and a node that is killed again and again at random moments, with bad times between.

Every object whose C-STORE was answered with success must be in the archive as exactly one derived object at the end.
``benchmarks/node_kills.py`` runs it at length; ``test_campaign.py`` a few kills of it.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom.orthanc import Orthanc
from dicom.synthetic import Series
from pynetdicom import AE
from service.bad_times import EPISODES
from service.killed_node import Forked
from service.rows import new_uid
from service.whole import NodeUnderTest, sent_uids, until

CT = "1.2.840.10008.5.1.4.1.1.2"
SENDERS = ("CT", "CT2", "CT3")
PHASES = ("starting", "receiving", "working", "sending", "confirming", "idle")
PATIENCE_S = 600.0
LONGEST_BACKLOG = 9  # series not done, above which senders wait by default: a node that is always killed falls behind
CATCHES_UP_S = 10.0  # that a node may have for its backlog before it is killed again
LONGEST_EPISODE_S = 2.0


class Sender(threading.Thread):
    """A scanner: sends series after series, repeats what was not acknowledged, and now and then what was.

    Args:
        title: its AE title.
        port: of the node.
        folder: for its files.
        seed: of its series and pauses.
        may_send: asked before each series.
    """

    def __init__(self, title: str, port: int, folder: Path, seed: int, may_send: Callable[[], bool]) -> None:
        super().__init__(name=title, daemon=True)
        self.title, self.port, self.folder = title, port, folder
        self.may_send = may_send
        self.acknowledged: set[str] = set()
        self.series = 0
        self.refused = 0
        self.repeated = 0
        self.fault: BaseException | None = None
        self.ending = threading.Event()
        self._random = random.Random(seed)

    def run(self) -> None:
        """Until it is asked to end; a series that was begun is sent whole."""
        try:
            while not self.ending.is_set():
                if self.may_send():
                    self._send_series()
                self.ending.wait(self._random.uniform(0.0, 0.5))
        except BaseException as error:
            self.fault = error

    def _send_series(self) -> None:
        self.series += 1
        count, folder = self._random.randint(3, 5), self.folder / f"{self.title}-{self.series}"
        uids = {"study_uid": new_uid(), "series_uid": new_uid()}
        files = Series(slots=range(count), rows=32, columns=32, seed=self.series, **uids).write(folder)
        left = [(path, uid) for path in files for uid in sent_uids([path])]
        while left:
            left = self._send(left)
            time.sleep(self._random.uniform(0.02, 0.2) if left else 0.0)
        if self._random.random() < 0.2:  # a scanner that did not hear the answer sends it again
            self.repeated += 1
            self._send([(path, uid) for path in files[:1] for uid in sent_uids([path])])

    def _send(self, objects: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
        """Send on one association; what was not acknowledged."""
        ae = AE(self.title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", self.port, ae_title="ISCL")
        left = list(objects)
        while left and association.is_established:
            try:
                status = association.send_c_store(str(left[0][0])).get("Status")
            except (RuntimeError, ValueError):  # the association has just ended
                break
            if status != 0x0000:
                self.refused += status is not None
                break
            self.acknowledged.add(left.pop(0)[1])
        if association.is_established:
            association.release()
        return left


class CampaignNode(NodeUnderTest):
    """A node whose data folder may be a small disk of its own."""

    def settings(self) -> dict[str, Any]:
        values = super().settings()
        values["peers"].append({**values["peers"][1], "name": "ct3", "ae_title": "CT3"})
        values["peers"][0]["commitment_timeout_s"] = 2
        values["work"]["attempts"] = 1000  # the series is not what kills it
        values["sending"]["tries"] = 1000
        return values

    def launch(self) -> None:
        """Start it without waiting for anything; it has been started before, and its settings are written."""
        self.process = Forked(self.folder / "node.json", "", self.folder / "node.log", self.traced)

    def phases(self) -> set[str]:
        """What is going on, by the rows."""
        found = set()
        if self.states("series").get("receiving"):
            found.add("receiving")
        if self.states("jobs").get("running"):
            found.add("working")
        deliveries = self.states("deliveries")
        if deliveries.get("waiting"):
            found.add("sending")
        if deliveries.get("sent") or deliveries.get("asked"):
            found.add("confirming")
        return found or {"idle"}


@dataclass
class Figures:
    """What a campaign found."""

    kills: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    episodes: Counter[str] = field(default_factory=Counter)
    killed_in_episodes: int = 0
    series: int = 0
    acknowledged: int = 0
    refused: int = 0
    repeated: int = 0
    derived: int = 0
    lost: int = 0
    twice: int = 0
    unacknowledged: int = 0
    leftovers: int = 0
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether nothing was lost, nothing is there twice, and nothing is left over."""
        return self.acknowledged == self.derived and not (self.lost or self.twice or self.leftovers)

    def table(self) -> str:
        """For people."""
        struck = ", ".join(f"{self.phases[phase]} {phase}" for phase in PHASES if self.phases[phase])
        bad = ", ".join(f"{count} {name}" for name, count in sorted(self.episodes.items()))
        lines = {
            "kills": f"{self.kills}, {self.killed_in_episodes} of them in a bad time",
            "in progress when they struck": struck,
            "bad times": bad or "none",
            "series sent": f"{self.series} by {len(SENDERS)} senders at once, {self.repeated} of them with a repeat",
            "answered with a failure": f"{self.refused}, sent again",
            "acknowledged": str(self.acknowledged),
            "derived, in the archive": str(self.derived),
            "lost": str(self.lost),
            "twice": str(self.twice),
            "derived and not acknowledged": str(self.unacknowledged),
            "files without a row, rows without a file": str(self.leftovers),
            "minutes": f"{self.seconds / 60:.1f}",
        }
        return "\n".join(f"{name:42s}{text}" for name, text in lines.items())


class Campaign:
    """Kills a node.

    Args:
        folder: for everything.
        bundle: a model.
        pacs: the destination.
        seed: of all that is random here; the moments depend on the machine, too.
        own_disk: whether the data folder is a disk of its own, without which there are only episodes of PACS and lock.
        longest_backlog: series that are not done, above which senders wait.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        pacs: Orthanc,
        *,
        seed: int,
        own_disk: bool,
        longest_backlog: int = LONGEST_BACKLOG,
    ) -> None:
        self.folder, self.pacs, self.own_disk = folder, pacs, own_disk
        self.longest_backlog = longest_backlog
        self.node = CampaignNode(folder / "node", bundle, pacs, quiet_s=0.5)
        self.figures = Figures()
        self._random = random.Random(seed)
        self._backlog = 0
        self.senders = [
            Sender(title, self.node.port, folder / "scans", seed * 10 + number, lambda: self._backlog < longest_backlog)
            for number, title in enumerate(SENDERS)
        ]

    def run(self, kills: int, episode_every: int, progress: Callable[[str], None] = lambda _: None) -> Figures:
        """Kill it so often, let it end its work, and compare both ends."""
        begun = time.monotonic()
        self.node.start()
        for sender in self.senders:
            sender.start()
        try:
            while self.figures.kills < kills:
                if episode_every and self.figures.kills % episode_every == episode_every - 1:
                    self._bad_time()
                else:
                    self._wait_for_a_moment()
                    self._kill()
                progress(f"{self.figures.kills} kills, {self._acknowledged()} acknowledged, backlog {self._backlog}")
            self._drain()
        finally:
            self._end()
        self._compare()
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    def _acknowledged(self) -> int:
        return sum(len(sender.acknowledged) for sender in self.senders)

    def _look(self) -> set[str]:
        """What is going on; a database that is just being repaired, or cannot be read, says nothing."""
        try:
            jobs = self.node.states("jobs")
            done = sum(count for state, count in jobs.items() if state in ("done", "superseded"))
            self._backlog = sum(self.node.states("series").values()) - done
            return self.node.phases()
        except sqlite3.Error:
            return set()

    def _wait_for_a_moment(self) -> None:
        """At random: any moment, also of a start; or one at which a chosen thing is going on."""
        if self._random.random() < 0.15:
            time.sleep(self._random.uniform(0.0, 1.0))  # the node may still be starting
            return
        begun = time.monotonic()
        until(lambda: self._started() or self.node.ended(), lambda: self.node.log[-4000:], PATIENCE_S)
        assert not self.node.ended(), self.node.log[-6000:]
        while self._behind() and time.monotonic() < begun + CATCHES_UP_S:
            time.sleep(0.05)
        wanted = self._random.choice(PHASES[1:5])
        end = time.monotonic() + self._random.uniform(0.5, 4.0)
        while wanted not in self._look() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(self._random.uniform(0.0, 0.15))

    def _behind(self) -> bool:
        self._look()
        return self._backlog >= self.longest_backlog

    def _started(self) -> bool:
        return '"node.started"' in self.node.log[self._log_began :]

    _log_began = 0

    def _kill(self) -> None:
        started = self._started()
        self.node.kill()
        self.figures.kills += 1
        self.figures.phases.update(self._look() if started else {"starting"})
        self._launch()

    def _launch(self) -> None:
        self._log_began = len(self.node.log)
        self.node.launch()

    def _bad_time(self) -> None:
        """One of the episodes, in the middle of which the node is killed; it may not be able to start in there."""
        names = [name for name in EPISODES if self.own_disk or name in ("locked database", "silent PACS")]
        fewest = min(self.figures.episodes[name] for name in names)
        name = self._random.choice([name for name in names if self.figures.episodes[name] == fewest])
        self.figures.episodes[name] += 1
        until(lambda: self._started() or self.node.ended(), lambda: self.node.log[-4000:], PATIENCE_S)
        with EPISODES[name](self.node, self.pacs):
            time.sleep(self._random.uniform(0.3, LONGEST_EPISODE_S))
            self._kill()
            self.figures.killed_in_episodes += 1
            time.sleep(self._random.uniform(0.0, LONGEST_EPISODE_S))
        if self.node.ended():  # it refused to start, as it should
            self._launch()
        until(lambda: self._started() or self.node.ended(), lambda: self.node.log[-4000:], PATIENCE_S)
        if self.node.ended():  # it began to start before the end of the episode, and refused after
            self._launch()

    def _drain(self) -> None:
        """Let everything end: the senders have all acknowledged, and the node has nothing left to do."""
        for sender in self.senders:
            sender.ending.set()
        for sender in self.senders:
            sender.join(PATIENCE_S)
            assert not sender.is_alive(), f"{sender.title} could not get rid of its series\n{self.node.log[-6000:]}"
            assert sender.fault is None, repr(sender.fault)
        self.node.wait_done(timeout_s=PATIENCE_S)
        assert self.node.stop() == 0

    def _end(self) -> None:
        for sender in self.senders:
            sender.ending.set()
        if self.node.process is not None and not self.node.ended():
            self.node.kill()

    def _compare(self) -> None:
        figures = self.figures
        acknowledged = set().union(*(sender.acknowledged for sender in self.senders))
        derived = Counter(self._derived_sources())
        figures.series = sum(sender.series for sender in self.senders)
        figures.refused = sum(sender.refused for sender in self.senders)
        figures.repeated = sum(sender.repeated for sender in self.senders)
        figures.acknowledged, figures.derived = len(acknowledged), len(derived)
        figures.lost = len(acknowledged - set(derived))
        figures.unacknowledged = len(set(derived) - acknowledged)
        figures.twice = sum(count > 1 for count in derived.values())
        rows = {row["file"] for row in self.node.rows("SELECT file FROM instances")}
        disk = {str(path.relative_to(self.node.data)) for path in (self.node.data / "sources").rglob("*.dcm")}
        half = [path for path in self.node.data.rglob("*") if path.name.endswith((".part", ".partial"))]
        figures.leftovers = len(rows ^ disk) + len(half)

    def _derived_sources(self) -> list[str]:
        """The source that each derived object of the archive names."""
        return [
            self.pacs.answer(f"/instances/{name}/simplified-tags")["SourceImageSequence"][0]["ReferencedSOPInstanceUID"]
            for name in self.pacs.answer("/instances")
        ]
