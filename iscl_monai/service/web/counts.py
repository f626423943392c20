"""What has gone wrong since the node started, counted in memory: it is known when the database cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """Counts since the start.

    Args:
        loop_faults: by loop: faults that it went on after.
        sweep_failures: by peer: queries and retrievals that failed.
        worker_deaths: how often the worker died.
    """

    loop_faults: Mapping[str, int] = field(default_factory=dict)
    sweep_failures: Mapping[str, int] = field(default_factory=dict)
    worker_deaths: int = 0
