"""The workers as the driver sees them: calls go out, answers and deaths come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from iscl_monai.batch.worker import Description


@dataclass(eq=False)
class Call:
    """A method of :class:`iscl_monai.batch.worker.Worker`, and for whom it is called.

    Attributes:
        method: its name.
        arguments: what it gets.
        subject: folder, unit or series that the driver waits for.
    """

    method: str
    arguments: tuple[Any, ...]
    subject: Any


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a call.

    Attributes:
        call: which one.
        value: what the worker returned.
        failure: why there is no value: its worker died, or something was raised there.
        died: whether it was the worker's death.
    """

    call: Call
    value: Any = None
    failure: str = ""
    died: bool = False


class Pool(Protocol):
    """Workers with their models loaded, each doing one call at a time."""

    def start(self) -> Sequence[Description]:
        """Wait until all of them are ready.

        Raises:
            Refusal: settings, weights or folders that do not fit.
        """

    def idle(self) -> Description | None:
        """The worker that gets the next call; None: all have something to do."""

    def submit(self, call: Call) -> None:
        """Give a call to the worker that :meth:`idle` named."""

    def busy(self) -> int:
        """How many calls are under way."""

    def next(self) -> Answer | None:
        """Wait for the next answer; None: the worker that took the place of a dead one is ready.

        Raises:
            Refusal: no worker can start any more.
        """

    def close(self) -> None:
        """End all of them, whatever they do."""


def drive(
    pool: Pool,
    *,
    next_call: Callable[[], Call | None],
    finish: Callable[[Answer], None],
    has_more: Callable[[], bool],
) -> None:
    """Keep every worker busy until there is nothing more to do.

    Args:
        pool: started.
        next_call: what an idle worker gets; None: nothing for now.
        finish: takes an answer.
        has_more: whether a call will come; asked when no call is under way.
    """
    while True:
        while pool.idle() is not None and (call := next_call()) is not None:
            pool.submit(call)
        if not pool.busy() and not has_more():
            return
        answer = pool.next()
        if answer is not None:
            finish(answer)
