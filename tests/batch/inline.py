"""A pool whose one worker is this process: calls are answered at once, and made to fail at will."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from iscl_monai.batch.pool import Answer, Call
from iscl_monai.batch.worker import Description, Settings, Worker

Before = Callable[[Call], Answer | None]


class InlinePool:
    """See :class:`iscl_monai.batch.pool.Pool`.

    Args:
        settings: of the worker.
        root: of the archive.
        out: of results.
        before: what to do before a call; an answer takes the place of the worker's.
    """

    def __init__(self, settings: Settings, root: Path, out: Path, before: Before = lambda call: None) -> None:
        self.arguments = (settings, root, out)
        self.before = before
        self.waiting: Call | None = None
        self.calls: list[Call] = []

    def start(self) -> Sequence[Description]:
        self.worker = Worker(*self.arguments)
        self.description = self.worker.describe()
        return [self.description]

    def idle(self) -> Description | None:
        return None if self.waiting else self.description

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        self.waiting = call

    def busy(self) -> int:
        return int(self.waiting is not None)

    def next(self) -> Answer | None:
        call, self.waiting = self.waiting, None
        assert call is not None
        answer = self.before(call)
        return answer or Answer(call, getattr(self.worker, call.method)(*call.arguments))

    def close(self) -> None:
        self.waiting = None


def denoised(pool: InlinePool) -> list[str]:
    """UIDs of the series that were handed out, in order."""
    return [call.subject.series_uid for call in pool.calls if call.method == "denoise"]


def ends_in_a_fork(work: Callable[[], object]) -> int:
    """Exit code of a child process that does it; minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
