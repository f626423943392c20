"""A thread that does one kind of work again and again, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from iscl_monai.service.log import log

AFTER_A_FAULT_S = 5.0


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
                self.faults += 1
                log.exception("loop.fault", loop=self.name, error=type(error).__name__)
                wait_s = AFTER_A_FAULT_S
            self._wake.wait(wait_s)
            self._wake.clear()
