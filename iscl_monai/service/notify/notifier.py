"""Looks for causes now and then, and has each channel tell people of them in a thread of its own.

A dead channel holds up nobody: its messages are put together anew when it lives again, and what is over by then is told
as over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.notify.causes import Cause, causes_of_jobs, causes_of_parts
from iscl_monai.service.notify.channels import Channel, MailChannel, NotSentError, WebhookChannel
from iscl_monai.service.notify.message import Message
from iscl_monai.service.notify.notices import NoticeBoard
from iscl_monai.service.notify_settings import Notify
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.settings import Settings

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 600.0  # of a channel, after a message that did not get through
STOPS_WITHIN_S = 2.0  # a channel that waits for its server dies with the process

Health = Mapping[str, tuple[bool, str]]


class Notifier:
    """Tells people what needs them; does nothing if the settings name nobody to tell.

    Args:
        settings: of the node.
        store: the database.
        health: of the parts of the node.
        channels: that tell people; None: those of the settings.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        health: Callable[[], Health],
        channels: tuple[Channel, ...] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings.notify
        self.store = store
        self.health = health
        channels = channels_of(settings.notify) if channels is None else channels
        self.board = NoticeBoard(store, [one.name for one in channels], settings.notify.after_s, clock)
        self.tellers = {one.name: Teller(one, self.board, settings, clock) for one in channels}
        self.loop = Loop("notify", self.step)
        self._of_jobs: list[Cause] = []
        self._of_parts: list[Cause] = []

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread, for the health check; none if there is nobody to tell."""
        return (self.loop, *(teller.loop for teller in self.tellers.values())) if self.tellers else ()

    def start(self) -> None:
        """Begin."""
        for loop in self.loops:
            loop.start()

    def stop(self, timeout_s: float = STOPS_WITHIN_S) -> bool:
        """End; whether all threads have ended in time."""
        for loop in self.loops:
            loop.stop(0)
        end = time.monotonic() + timeout_s
        ended = [loop.stop(max(0.0, end - time.monotonic())) for loop in self.loops]  # each, also if one was too late
        return all(ended)

    def step(self) -> float:
        """Look for causes once; what cannot be looked at is as it was."""
        with self.loop.guard("parts"):
            self._of_parts = causes_of_parts(self.health())
        with self.loop.guard("jobs"):
            self._of_jobs = causes_of_jobs(self.store)
        self.board.update([*self._of_parts, *self._of_jobs])
        for teller in self.tellers.values():
            teller.loop.wake()
        return self.settings.every_s


class Teller:
    """One channel, and what it still has to tell.

    Args:
        channel: tells people.
        board: of the notices.
        settings: of the node.
        clock: monotonic, in seconds.
    """

    def __init__(self, channel: Channel, board: NoticeBoard, settings: Settings, clock: Callable[[], float]) -> None:
        self.channel = channel
        self.board = board
        self.settings = settings
        self.trouble = ""  # why the last message did not get through
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, clock)
        self.loop = Loop(f"notify {channel.name}", self.step)

    def step(self) -> float:
        """Tell what there is to tell, in one message."""
        name = self.channel.name
        batch = self.board.batch(name)
        if not batch or not self._backoff.is_due(name):
            return self.settings.notify.every_s
        try:
            self.channel.send(Message(self.settings.node.ae_title, batch, self.settings.notify.page_url))
        except NotSentError as error:
            self._record_failure(str(error))
        except Exception as error:
            self._record_failure(f"a fault of ours ({type(error).__name__})")
            raise
        else:
            self.trouble = ""
            self._backoff.reset(name)
            self.board.mark_announced(name, batch)
        return self.settings.notify.every_s

    def _record_failure(self, reason: str) -> None:
        self._backoff.failed(self.channel.name)
        if reason != self.trouble:
            log.warning("notify.not_sent", channel=self.channel.name, reason=reason)
        self.trouble = reason


def channels_of(settings: Notify) -> tuple[Channel, ...]:
    """Those that the settings name."""
    webhook: tuple[Channel, ...] = (WebhookChannel(settings.webhook),) if settings.webhook is not None else ()
    mail: tuple[Channel, ...] = (MailChannel(settings.mail),) if settings.mail is not None else ()
    return (*webhook, *mail)
