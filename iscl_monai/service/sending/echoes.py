"""Every peer is asked now and then whether it answers, and at once when a person wants to know."""

from __future__ import annotations

from collections.abc import Callable

from iscl_monai.service.database.store import now
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop, stop_all
from iscl_monai.service.sending.echo import EchoAnswer, EchoClient, echo_client
from iscl_monai.service.settings import Settings

END_S = 1.0  # for an answer that is on its way when the node stops


class PeerEcho:
    """Asks one peer, again and again.

    Args:
        name: of the peer.
        client: asks it.
        every_s: how often.
    """

    def __init__(self, name: str, client: EchoClient, every_s: float) -> None:
        self.name = name
        self.client = client
        self.every_s = every_s
        self.answer: EchoAnswer | None = None  # the last one
        self.answered_at = ""  # when that was, UTC
        self.last_success_at = ""  # when it answered last, UTC
        self.pending = True  # it is asked now, or will be at once
        self.loop = Loop(f"echo {name}", self.step)

    @property
    def trouble(self) -> str:
        """Why it did not answer last time; "" if it did, or has not been asked yet."""
        return self.answer.sentence if self.answer is not None and self.answer.failure else ""

    def check_now(self) -> None:
        """Ask it at once, in the loop's own thread."""
        self.pending = True
        self.loop.wake()

    def step(self) -> float:
        """Ask once; seconds until the next time."""
        answer = self.client.echo()
        if self.loop.stopping:  # it may have been us who ended it
            return self.every_s
        if answer.failure and not self.trouble:
            log.warning("echo.failed", peer=self.name, reason=answer.failure)
        self.answer, self.answered_at = answer, now()
        if not answer.failure:
            self.last_success_at = self.answered_at
        self.pending = False
        return self.every_s


class Echoes:
    """Asks all peers that can be asked: a thread for each, so that a silent one holds up no other.

    Args:
        settings: of the node.
        client_for: makes the client of a peer.
    """

    def __init__(self, settings: Settings, client_for: Callable[..., EchoClient] = echo_client) -> None:
        self.peers = {
            peer.name: PeerEcho(peer.name, client_for(settings, peer), settings.echo_every_s)
            for peer in settings.peers
            if peer.can_receive
        }

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread, for the health check."""
        return tuple(one.loop for one in self.peers.values())

    def use(self, settings: Settings) -> None:
        """Ask all peers for what these settings, with other rules, need of them, and ask at once."""
        for one in self.peers.values():
            one.client.use(settings)
            one.check_now()

    def start(self) -> None:
        """Begin."""
        for loop in self.loops:
            loop.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End; whoever still waits for an answer is cut off. Whether all threads have ended in time."""
        cut_off = [(one.loop, one.client.abort) for one in self.peers.values()]
        return stop_all(cut_off, orderly_s=END_S, timeout_s=timeout_s)
