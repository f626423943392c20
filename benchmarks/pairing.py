"""Two or more ways of doing the same, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def in_turns(ways: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """CPU seconds of every way in every round, A B A B ..., after some rounds that do not count.

    The time this process had the processor, all threads added up: what else the machine does hardly shows in it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(warm_up + rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if round_ >= warm_up:
                seconds[name].append(time.process_time() - start)
    return seconds


def table(seconds: Mapping[str, list[float]], baseline: str) -> str:
    """Median CPU seconds, and how many times as fast as the baseline (median and range of the rounds' ratios)."""
    lines = []
    for name, values in seconds.items():
        ratios = [base / value for base, value in zip(seconds[baseline], values, strict=True)]
        lines.append(
            f"{name:28s} {statistics.median(values):8.3f} CPU-s   {statistics.median(ratios):5.2f} x"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return "\n".join(lines)
