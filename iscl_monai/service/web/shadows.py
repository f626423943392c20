"""What shadow rules have made, beside what the deciding rule has made of the same series."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import jobs

NEWEST = 200  # series that a rule is judged by


@dataclass(frozen=True)
class ComparedRegion:
    """Noise of one region before, and after each job.

    Args:
        region: its name.
        before_hu: noise before.
        after_hu: noise after, by id of the job; None where a job has not measured it.
    """

    region: str
    before_hu: float
    after_hu: Mapping[int, float | None]


@dataclass(frozen=True)
class ComparedSeries:
    """The jobs of a series beside each other.

    Args:
        jobs: with a result; that of the deciding rule first, if there is one.
        regions: measured.
    """

    jobs: tuple[JobRow, ...]
    regions: tuple[ComparedRegion, ...]


def compare_jobs(found: Sequence[JobRow]) -> ComparedSeries | None:
    """The newest job of the deciding rule and those of shadow rules; None if there is none of a shadow rule.

    Args:
        found: jobs of a series, the newest first.
    """
    done = [job for job in found if job.result and job.state is not JobState.SUPERSEDED]
    shadows = [job for job in done if job.shadow]
    if not shadows:
        return None
    compared = (*[job for job in done if not job.shadow][:1], *shadows)
    measured = {job.id: _regions(job.result) for job in compared}
    first: dict[str, Mapping[str, Any]] = {}
    for regions in measured.values():
        first = {**regions, **first}
    rows = [
        ComparedRegion(
            name,
            one["noise_before_hu"],
            {number: regions.get(name, {}).get("noise_after_hu") for number, regions in measured.items()},
        )
        for name, one in first.items()
    ]
    return ComparedSeries(compared, tuple(rows))


def _regions(result: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    listed = (result or {}).get("regions") or []
    return {str(one.get("region")): one for one in listed if one.get("noise_before_hu")}


@dataclass(frozen=True)
class ShadowSummary:
    """A shadow rule beside the rules that decided, over many series.

    Args:
        series: that both have made.
        shadow_percent: noise that is left, median of series.
        deciding_percent: the same of the deciding rules.
    """

    series: int
    shadow_percent: float
    deciding_percent: float


def summary_of(store: Store, rule: str) -> ShadowSummary | None:
    """Of the newest series that a shadow rule has made; None if no deciding rule has made one of them."""
    made = jobs.c.result.is_not(None) & (jobs.c.state != JobState.SUPERSEDED)
    newest = select(jobs.c.series_id, jobs.c.result).where(made, jobs.c.shadow == 1, jobs.c.rule == rule)
    shadows = dict(store.tuples(newest.order_by(jobs.c.id.desc()).limit(NEWEST)))
    of_series = select(jobs.c.series_id, jobs.c.result).where(made, jobs.c.shadow == 0)
    deciding = dict(store.tuples(of_series.where(jobs.c.series_id.in_(list(shadows)))))
    pairs = [(_percent_left(shadows[number]), _percent_left(result)) for number, result in deciding.items()]
    known = [(shadow, other) for shadow, other in pairs if shadow is not None and other is not None]
    if not known:
        return None
    return ShadowSummary(
        len(known), statistics.median(pair[0] for pair in known), statistics.median(pair[1] for pair in known)
    )


def _percent_left(result: Mapping[str, Any]) -> float | None:
    """Noise after by noise before, mean of the regions."""
    ratios = [one["noise_after_hu"] / one["noise_before_hu"] for one in _regions(result).values()]
    return 100 * statistics.fmean(ratios) if ratios else None
