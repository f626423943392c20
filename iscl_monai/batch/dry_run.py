"""``iscl-monai batch --dry-run``: what a run would do, by headers alone; no worker, no model, nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.batch.archive import archive_of, name_of
from iscl_monai.batch.denoise import check_out
from iscl_monai.batch.planning import PlannedSeries, plan_unit
from iscl_monai.batch.units import look_at, units_of


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What would become of an archive.

    Attributes:
        series: that would be denoised.
        refused: why others would be refused, one line each.
        skipped: how many files would be skipped for each reason.
        absent: names of series that a table asks for and that are not there.
    """

    series: Sequence[PlannedSeries]
    refused: Sequence[str]
    skipped: Mapping[str, int]
    absent: Sequence[str]

    @property
    def slices(self) -> int:
        """Images that would be written."""
        return sum(one.slices for one in self.series)

    @property
    def result_bytes(self) -> int:
        """Space that they would take, about."""
        return sum(one.result_bytes for one in self.series)


def dry_run(source: Path, out: Path, *, looked: Callable[[int], object] = lambda folders: None) -> DryRun:
    """Plan everything as a run does, in this process.

    What an earlier run finished is planned like the rest: how much of it is still good is found out by reading it.

    Args:
        source: see :func:`iscl_monai.batch.archive.archive_of`.
        out: folder of results; it is neither made nor read.
        looked: called with 1 after each folder.

    Raises:
        Refusal: an archive or places that no run could begin with.
    """
    archive, out = archive_of(source), Path(out).absolute()
    check_out(archive, out)
    folders = []
    for path in archive.folders():
        folders.append(look_at(path))
        looked(1)
    wanted = archive.names()
    series: list[PlannedSeries] = []
    refused: list[str] = []
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    for unit in units_of(folders):
        planned = plan_unit(unit, archive.root, training=None)
        skipped.update(planned.skipped)
        refused += [reason for _, reason in planned.damaged]
        for one in planned.series:
            name = name_of(one)
            if wanted is not None and name not in wanted:
                continue
            seen.add(name)
            if one.source is not None:
                series.append(one)
            elif one.refusal:
                refused.append(one.refusal)
    return DryRun(series=series, refused=refused, skipped=skipped, absent=sorted(set(wanted or ()) - seen))
