"""Signals of the operating system, answered in a thread of their own.

Python runs a handler in the main thread, between two instructions of whatever that does. If that has just taken a lock
that the handler wants, too, such as an event's, the process stands still for ever: so did a node that was told to end
in the moment in which it began to wait for being told.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from iscl_monai.service.log import log

MOST_AT_ONCE = 64
RELOAD = signal.SIGHUP  # has a node read its rules anew


def hold_back(*numbers: signal.Signals) -> None:
    """Let signals of this thread wait until :func:`answering`: what a node that runs answers ends one that starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


@contextmanager
def answering(answers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Call a function when its signal comes, until the block ends; in the main thread of a process.

    Args:
        answers: by signal. They may take locks and as long as they like; signals that come meanwhile wait.
    """
    come, note = socket.socketpair()
    note.setblocking(False)  # Python demands it: what is never read must not halt the process
    thread = threading.Thread(target=_answer, args=(come, answers), name="signals", daemon=True)
    thread.start()
    fd_before = signal.set_wakeup_fd(note.fileno(), warn_on_full_buffer=False)  # first, so that none gets lost
    before = {number: signal.signal(number, _do_nothing) for number in answers}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, answers)  # those that were held back come now
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(fd_before)
        note.close()
        thread.join()
        come.close()


def _do_nothing(*_: Any) -> None:
    """Python writes the signal's number into the socket only if there is a handler."""


def _answer(come: socket.socket, answers: Mapping[signal.Signals, Callable[[], object]]) -> None:
    while numbers := come.recv(MOST_AT_ONCE):
        for number in numbers:
            _answer_one(number, answers)


def _answer_one(number: int, answers: Mapping[signal.Signals, Callable[[], object]]) -> None:
    try:
        answers.get(signal.Signals(number), _do_nothing)()
    except Exception:  # the next signal must be answered, too
        log.exception("signal.fault", signal=number)
