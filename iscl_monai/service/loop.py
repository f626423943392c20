"""A thread that does one kind of work again and again, until it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.log import log

AFTER_A_FAULT_S = 5.0
STEP = "the whole step"  # where a fault is about no single member


class Loop:
    """Calls a step until stopped; a step that raises is logged and tried again, so that no fault ends the work.

    Args:
        name: of the thread.
        step: does what there is to do now; returns the seconds to wait before the next call, 0 for none.
    """

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self.name = name
        self.step = step
        self.faults = 0
        self._failing: dict[str, str] = {}  # from each member that failed last time to the error
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Do not wait any longer: there is something to do."""
        self._wake.set()

    @property
    def stopping(self) -> bool:
        """Whether the loop is to end; long steps check this between two pieces of work."""
        return self._stop.is_set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def failing(self) -> dict[str, str]:
        """The members (a series, a job, a file) whose last turn failed, each with the error; empty if all is well."""
        return dict(self._failing)

    @contextmanager
    def guard(self, member: str) -> Iterator[None]:
        """Work on one member of many: when it fails, that is counted, shown and logged, and the others have their turn.

        Args:
            member: what the health check calls it, such as ``series 7``.

        Raises:
            StoreUnavailable: the database cannot be used, which is about no single member.
        """
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:
            self._record_fault(member, error)
        else:
            self._failing.pop(member, None)

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Members that are not worked on any more fail no more.

        Args:
            gone: whether a member is one of these.
        """
        for member in [member for member in self._failing if gone(member)]:
            self._failing.pop(member, None)

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End after the current step; whether it has ended in time."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                wait_s = self.step()
            except Exception as error:
                self._record_fault(STEP, error)
                wait_s = AFTER_A_FAULT_S
            else:
                self._failing.pop(STEP, None)
            self._wake.wait(wait_s)
            self._wake.clear()

    def _record_fault(self, member: str, error: Exception) -> None:
        """Count and show it always, log it once: the same member may fail twice a second for days."""
        self.faults += 1
        kind = type(error).__name__  # its text may hold anything, a patient's name too
        if self._failing.get(member) != kind:
            log.error("loop.fault", loop=self.name, member=member, error=kind, exc_info=True)
        self._failing[member] = kind


def stop_all(loops: Sequence[tuple[Loop, Callable[[], object]]], *, orderly_s: float, timeout_s: float) -> bool:
    """End loops at once, each with what cuts off its step when that takes longer.

    Args:
        loops: each with the function that cuts it off, called in this thread.
        orderly_s: for what is nearly done, of all together.
        timeout_s: of all together, from when the last was cut off.

    Returns:
        Whether all threads have ended in time.
    """
    for loop, _ in loops:
        loop.stop(0)
    orderly = time.monotonic() + min(orderly_s, timeout_s)
    for loop, _ in loops:
        loop.stop(max(0.0, orderly - time.monotonic()))
    for loop, cut_off in loops:
        if loop.alive:
            cut_off()
    end = time.monotonic() + timeout_s
    ended = [loop.stop(max(0.0, end - time.monotonic())) for loop, _ in loops]  # each, also if one was too late
    return all(ended)
