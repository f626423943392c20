"""What became of an archive: one set of numbers, for the terminal, for programs, and for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from iscl_monai.batch.ledger import DONE, REFUSED, Entry, Ledger
from iscl_monai.durable import whole_file
from iscl_monai.report.pages import write_page
from iscl_monai.report.report_page import ReportPage
from iscl_monai.report.section import Section, Table
from iscl_monai.report.skipped import skipped_section

NUMBERS, PAGE = "summary.json", "index.html"
MOST_SHOWN = 500
"""Series of a kind on the page; the numbers file and the ledger have all."""


@dataclass(frozen=True, kw_only=True)
class ThisRun:
    """What only the run itself knows.

    Attributes:
        workers: how many there were.
        wall_s: seconds since it began.
        deaths: workers that ended while they had something to do.
        stopped: why it ended before its time; ``""`` when it did not.
    """

    workers: int
    wall_s: float
    deaths: int
    stopped: str = ""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A series that has no result, or one of other files than lie there now."""

    series_uid: str
    title: str
    slices: int
    tries: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All numbers, over all runs into this folder but for ``run``.

    Attributes:
        series: that the archive holds, or the table names: done, refused and left together.
        done: with their results in place.
        refused: each with its reason.
        unlike: in what denoised series are unlike the training of the weights, by UID or title.
        left: neither; of a run that was stopped.
        slices: of those that are done.
        attempts: how often a series was handed to a worker.
        failed_attempts: of these, those that did not end with a result.
        cpu_s: of the workers, for those that are done.
        result_bytes: on the disk.
        skipped_files: number by reason.
        damaged_files: refusal by path.
        settings: what all of it was made with.
        run: this one.
    """

    series: int
    done: int
    refused: Sequence[Refused]
    unlike: Mapping[str, str]
    left: int
    slices: int
    attempts: int
    failed_attempts: int
    cpu_s: float
    result_bytes: int
    skipped_files: Mapping[str, int]
    damaged_files: Mapping[str, str]
    settings: Mapping[str, str]
    run: ThisRun

    def rows(self) -> list[tuple[str, str]]:
        """The numbers in words, for people."""
        per_slice = f"{self.cpu_s / self.slices:.3f}" if self.slices else "-"
        return [
            ("Series", str(self.series)),
            ("Denoised", str(self.done)),
            ("Of these unlike the training", str(len(self.unlike))),
            ("Refused", str(len(self.refused))),
            ("Left for the next run", str(self.left)),
            ("Slices denoised", str(self.slices)),
            ("Attempts", str(self.attempts)),
            ("Attempts that failed", str(self.failed_attempts)),
            ("Workers that died in this run", str(self.run.deaths)),
            ("Files skipped", str(sum(self.skipped_files.values()))),
            ("Files damaged", str(len(self.damaged_files))),
            ("CPU seconds of the workers", f"{self.cpu_s:.1f}"),
            ("CPU seconds per slice", per_slice),
            ("MB written", f"{self.result_bytes / 1e6:.1f}"),
            ("Workers", str(self.run.workers)),
            ("Seconds of this run", f"{self.run.wall_s:.1f}"),
        ]


def summarise(ledger: Ledger, units: set[str], *, settings: Mapping[str, str], run: ThisRun) -> Summary:
    """Count what the ledger has.

    Args:
        ledger: of the folder of results.
        units: fingerprints of all units that the archive has now.
        settings: see :class:`Summary`.
        run: see :class:`Summary`.
    """
    done = slices = left = result_bytes = 0
    cpu_s, refused, unlike = 0.0, [], {}
    for one in ledger.every_series():
        if one.state == DONE:
            done, slices = done + 1, slices + one.slices
            cpu_s, result_bytes = cpu_s + one.cpu_s, result_bytes + one.result_bytes
            if one.unlike:
                unlike[one.series_uid or one.title] = one.unlike
        elif one.state == REFUSED:
            refused.append(_refused(one))
        else:
            left += 1
    skipped, damaged = ledger.other_files(units)
    attempts, successes = ledger.count_attempts()
    return Summary(
        series=done + len(refused) + left,
        done=done,
        refused=refused,
        unlike=unlike,
        left=left,
        slices=slices,
        attempts=attempts,
        failed_attempts=attempts - successes,
        cpu_s=cpu_s,
        result_bytes=result_bytes,
        skipped_files=skipped,
        damaged_files=damaged,
        settings=settings,
        run=run,
    )


def _refused(one: Entry) -> Refused:
    return Refused(series_uid=one.series_uid, title=one.title, slices=one.slices, tries=one.tries, reason=one.reason)


def summary_content(summary: Summary) -> dict[str, Any]:
    """Of ``summary.json``: everything, and the lines of the page as ``numbers``."""
    return {**asdict(summary), "numbers": dict(summary.rows())}


def write_summary(summary: Summary, out: Path) -> tuple[Path, Path]:
    """Write the numbers and the page; earlier ones are replaced.

    Args:
        summary: what to tell.
        out: the folder of results.

    Returns:
        Both paths, the page last.
    """
    with whole_file(out / NUMBERS) as file:
        file.write(json.dumps(summary_content(summary), indent=1).encode())
    return out / NUMBERS, write_page(out / PAGE, "report.html", _page(summary))


def _page(summary: Summary) -> ReportPage:
    numbers = Table(heads=["What", "Number"], lines=[list(row) for row in summary.rows()])
    sections = [Section(title="Numbers", table=numbers)]
    if summary.refused:
        sections.append(_refused_section(summary.refused))
    if summary.unlike:
        sections.append(_unlike_section(summary.unlike))
    if summary.skipped_files:
        lines = [
            [str(count), reason] for reason, count in sorted(summary.skipped_files.items(), key=lambda one: -one[1])
        ]
        table = Table(heads=["Files", "Reason"], lines=lines, words=(1,), row_names=False)
        sections.append(Section(title="Files that were skipped", table=table))
    damaged = skipped_section(list(summary.damaged_files.items()))
    if damaged is not None:
        intro = f"{len(summary.damaged_files)} files, which may be lost slices."
        sections.append(replace(damaged, title="Damaged files", intro=intro))
    told = f"{summary.done} of {summary.series} series are denoised, {len(summary.refused)} refused."
    stopped = [f"The run was stopped: {summary.run.stopped}"] if summary.run.stopped else []
    return ReportPage(
        title="An archive denoised", paragraphs=[told, *stopped], sections=sections, made_with=summary.settings
    )


def _unlike_section(unlike: Mapping[str, str]) -> Section:
    lines = [[name, sentences] for name, sentences in list(unlike.items())[:MOST_SHOWN]]
    more = len(unlike) - len(lines)
    return Section(
        title="Unlike the training",
        intro="Look at these before anything is built on them; every image of them says the same.",
        table=Table(heads=["Series", "In what"], lines=lines, words=(1,)),
        note=f"And {more} more, see {NUMBERS}." if more > 0 else "",
    )


def _refused_section(refused: Sequence[Refused]) -> Section:
    lines = [[one.series_uid or one.title, str(one.slices), str(one.tries), one.reason] for one in refused[:MOST_SHOWN]]
    more = len(refused) - len(lines)
    return Section(
        title="Refused series",
        intro="A reason may name a folder, and folders are often called after patients.",
        table=Table(heads=["Series", "Slices", "Tries", "Reason"], lines=lines, words=(3,)),
        note=f"And {more} more, see {NUMBERS}." if more > 0 else "",
    )
