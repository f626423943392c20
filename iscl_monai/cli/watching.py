"""What a person sees of a denoising while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iscl_monai.console import printable
from iscl_monai.spoken import progress_console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iscl_monai.inference.classic import DenoisedSlice
    from iscl_monai.inference.plan import Plan


class Watching:
    """Progress on the terminal, and the report if there is to be one."""

    def __init__(self, reported: Any) -> None:
        self.bar = _bar("slices")
        self.report: Any = None
        if reported is not None:
            from iscl_monai.report.denoising import DenoisingReport

            self.report = DenoisingReport(reported)
        self.task: Any = None

    def __enter__(self) -> Watching:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def begins(self, title: str, count: int, unlike: Sequence[str]) -> None:
        """A series begins."""
        self.task = self.bar.add_task(printable(title)[:40], total=count)
        if self.report is not None:
            self.report.begins(title, count, unlike)

    def slice_written(self, written: DenoisedSlice) -> None:
        """A slice has been written."""
        self.bar.advance(self.task)
        if self.report is not None:
            self.report.slice_written(written)

    def gave_up(self) -> None:
        """The series is refused after all."""
        self.bar.remove_task(self.task)
        if self.report is not None:
            self.report.gave_up()

    def ends(self, folder: Path, done: Plan) -> None:
        """Everything has been written."""
        if self.report is not None:
            self.report.ends(folder, done)


class Count:
    """A bar whose end is told when it is known."""

    def __init__(self, bar: Any, work: str) -> None:
        self._bar = bar
        self._task = bar.add_task(work, total=None)

    def begins(self, total: int) -> None:
        """The total, once it is known."""
        self._bar.update(self._task, total=total)

    def __call__(self, done: int) -> None:
        """So many were done since the last call."""
        self._bar.advance(self._task, done)


@contextmanager
def counting(unit: str, work: str = "denoising") -> Iterator[Count]:
    """A bar that counts on."""
    with _bar(unit) as bar:
        yield Count(bar, work)


@contextmanager
def work_bar(work: str, total: int, done: int = 0) -> Iterator[Callable[[int], object]]:
    """A bar with the time left; what it is given is how many were done since.

    Args:
        work: what is done.
        total: how much there is of it.
        done: how much of that was done before.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(work, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console()) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda more: bar.advance(task, more)


def _bar(unit: str) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=progress_console(),
    )
