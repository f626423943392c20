"""Signals are answered whatever the main thread is just doing."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from service.whole import until

from iscl_monai.service.signals import answering

WITHIN_S = 60


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_is_answered_while_the_main_thread_holds_a_lock_that_the_answer_wants() -> None:
    """As ``Event.wait`` and ``Event.set`` hold one for a moment."""
    lock, asked = threading.Lock(), threading.Event()

    def answer() -> None:
        with lock:
            asked.set()

    with answering({signal.SIGUSR1: answer}):
        with lock:
            send(signal.SIGUSR1)
            threading.Event().wait(0.05)  # a handler would run now, and wait for ever
            assert not asked.is_set()
        assert asked.wait(WITHIN_S)


def test_an_answer_that_fails_does_not_keep_the_next_signal_from_being_answered() -> None:
    asked = threading.Event()
    with answering({signal.SIGUSR1: lambda: 1 // 0, signal.SIGUSR2: asked.set}):
        send(signal.SIGUSR1)
        send(signal.SIGUSR2)
        assert asked.wait(WITHIN_S)


def test_many_signals_at_once_halt_nobody() -> None:
    go_on, answered = threading.Event(), []

    def answer() -> None:
        go_on.wait(WITHIN_S)
        answered.append(1)

    with answering({signal.SIGUSR1: answer}):
        for _ in range(2000):  # more than the socket holds, while nobody reads it
            send(signal.SIGUSR1)
        go_on.set()
        until(lambda: answered)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_afterwards_signals_are_what_they_were(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with answering({number: lambda: None}):
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1
