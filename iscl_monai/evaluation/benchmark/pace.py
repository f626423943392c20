"""How long a benchmark still takes: bars for who looks, a few words for logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import mean
from typing import Protocol

Progress = Callable[[int], object]

FOUND_SECONDS = 1.0
"""What took less was found as it had been measured before, and says nothing of what is to come."""


class Bar(Protocol):
    """Opens a progress bar."""

    def __call__(self, work: str, total: int, done: int = 0) -> AbstractContextManager[Progress]:
        """Args: what is done, how much there is of it, and how much of that is done already."""
        ...


@contextmanager
def no_bar(work: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Where nobody looks."""
    yield lambda more: None


@dataclass(kw_only=True)
class Pace:
    """Things of one kind, done one after the other.

    Args:
        count: how many there are.
        begun: how many have begun.
        seconds: that each of those done took on the clock, without those that were found done.
    """

    count: int
    begun: int = 0
    seconds: list[float] = field(default_factory=list)

    def begins(self) -> str:
        """In words: which of how many."""
        self.begun += 1
        return f"{self.begun} of {self.count}"

    def took(self, seconds: float) -> None:
        """One is done."""
        if seconds >= FOUND_SECONDS:
            self.seconds.append(seconds)

    def left(self) -> str:
        """In words, for the end of a line: the time for what has begun last and all that follow; empty if unknown."""
        if not self.seconds:
            return ""
        return f"; about {duration(mean(self.seconds) * (self.count - self.begun + 1))} left at the pace so far"


@dataclass(kw_only=True)
class Shown:
    """Things of one kind for who waits: a line as each begins, and a bar over all of them.

    Args:
        work: what is done to them, in a word.
        pace: knows how many there are.
        size: of each, in what the bar counts.
        tell: called with the line.
        bar: of all.
    """

    work: str
    pace: Pace
    size: int
    tell: Callable[[str], object]
    bar: Bar

    def begins(self, title: str) -> AbstractContextManager[Progress]:
        """The next one."""
        self.tell(f"{self.work} {self.pace.begins()}: {title}{self.pace.left()}")
        return self.bar(self.work, self.pace.count * self.size, (self.pace.begun - 1) * self.size)


def duration(seconds: float) -> str:
    """In words, about."""
    minutes = seconds / 60
    if minutes < 1:
        return "a minute"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
