"""The messages on an association of ours, where two threads send and receive: pynetdicom's and the opener's.

pynetdicom serves reports (N-EVENT-REPORT) on a third thread, which at its end says that the association's own is
running, whether it is or not. Who has just paused that one, to send or to release, then waits until the network times
out; and a release that overtakes the answer to a report ends the connection
(https://github.com/pydicom/pynetdicom/issues/820, there in releases up to 3.0.4).
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT

LOOK_S = 0.1  # between two looks whether an association on which a response is awaited is still alive
PAUSE_S = 0.001  # between two looks whether the association's thread has paused


class AssociationMessages:
    """Requests are served by the association's thread, or by the one that has paused it; messages leave whole.

    Args:
        association: established; its way of receiving, serving and sending is replaced.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._queue: queue.Queue[tuple[Any, Any]] = association.dimse.msg_queue
        self._serving = False
        self._sending = threading.Lock()
        self._serve_request, self._send_msg = association._serve_request, association.dimse.send_msg
        association._serve_request = self.serve_or_queue  # type: ignore[method-assign, assignment]
        association.dimse.get_msg = self.get_msg  # type: ignore[method-assign]
        association.dimse.send_msg = self.send_msg  # type: ignore[method-assign]

    def pause(self) -> None:
        """Let the association's thread finish what it is serving, and then wait, so that nothing crosses a release."""
        self._association._reactor_checkpoint.clear()
        paused = 0
        while paused < 2 and self._association.is_alive():  # its last round may just have begun
            paused = paused + 1 if self._association._is_paused and not self._serving else 0
            time.sleep(PAUSE_S)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message, none of whose parts may come between those of another (pynetdicom calls this)."""
        with self._sending:
            self._send_msg(primitive, context_id)

    def serve_or_queue(self, message: Any, context_id: int) -> None:
        """Serve a request on the association's own thread; from any other it is queued (pynetdicom calls this)."""
        if threading.current_thread() is self._association:
            self._serve(message, context_id)
        else:
            self._queue.put((context_id, message))

    def get_msg(self, block: bool = False) -> tuple[Any, Any]:
        """The next message; with ``block`` the next response (pynetdicom calls this).

        Waiting ends as soon as none can come any more; pynetdicom signals that once, and a wait that begins after
        that would last for the whole timeout.
        """
        until = time.monotonic() + (self._association.dimse_timeout or float("inf") if block else 0.0)
        while True:
            alive = self._association.is_alive() and self._association.dul.is_alive()  # before the look, not after
            with suppress(queue.Empty):
                context_id, message = self._queue.get(timeout=LOOK_S) if block and alive else self._queue.get_nowait()
                if not (block and isinstance(message, N_EVENT_REPORT) and message.is_valid_request):
                    return context_id, message
                self._serve(message, context_id)  # the peer may wait for our answer before it sends its own
                self._association._is_paused = True  # as it was: this is the thread that has paused the other
                continue
            if not alive or time.monotonic() >= until:
                return None, None

    def _serve(self, message: Any, context_id: int) -> None:
        self._serving = True
        try:
            self._serve_request(message, context_id)
        finally:
            self._serving = False
