"""pynetdicom's connections, with limits: how long a PDU may be, and how long it may take to come or to go.

pynetdicom itself waits for ever for the rest of a PDU, and allocates what a header announces.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket

from iscl_monai.service.log import log
from iscl_monai.service.receiving.limits import TooMuchError, check_length

if TYPE_CHECKING:
    from pynetdicom.association import Association

IDLE_S = 0.001  # between two looks at a connection on which nothing can be read (yet)
AWAITS_REQUEST, ENDED = "Sta2", "Sta13"  # states of PS3.8 9.2.1: before the A-ASSOCIATE-RQ; awaits the connection's end
POLL_MS = 10.0  # that something to read is waited for, after which timers are looked at
SILENT_POLL_MS = 100.0  # the same for an A-ASSOCIATE-RQ: a hundred silent connections shall not keep a processor busy


class LimitedSocket(AssociationSocket):
    """Reads no PDU that is longer than its kind may be, and waits for none longer than it should take.

    Args:
        assoc: the association.
        client_socket: connected.
        longest_data: bytes of a P-DATA-TF.
        pdu_timeout_s: for one PDU, to come or to go.
        associate_by: when the first PDU must have come as a whole, by the monotonic clock.
    """

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket,
        longest_data: int,
        pdu_timeout_s: float,
        associate_by: float,
    ) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._longest_data = longest_data
        self._pdu_timeout_s = pdu_timeout_s
        self._deadline = 0.0
        self._first_by: float | None = associate_by
        self._in_pdu = False
        self.reads = True  # no more after the first invalid PDU: the connection is about to end
        client_socket.settimeout(pdu_timeout_s)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def ready(self) -> bool:
        """Whether something can be read; poll, since select knows no more than 1,024 files."""
        sock = self.socket
        # it awaits the end of the connection, and ignores data
        ended = self.assoc.dul.state_machine.current_state == ENDED
        if sock is None or not self._is_connected or ended or not self.reads:
            return False
        try:
            pending = getattr(sock, "pending", None)  # TLS has bytes of its own that poll does not see
            if pending is not None and pending():
                return True
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read what pynetdicom needs: six bytes of a header, then as many as it announced.

        Raises:
            OSError: they are too many, or do not come in time; pynetdicom then closes the connection.
        """
        if self._in_pdu:
            self._in_pdu = False
            return self._read_exactly(nr_bytes)
        self._deadline = time.monotonic() + self._pdu_timeout_s
        if self._first_by is not None:
            self._deadline, self._first_by = min(self._deadline, self._first_by), None
        header = self._read_exactly(nr_bytes)
        self.reads = len(header) == nr_bytes and 1 <= header[0] <= 7
        if self.reads:
            try:
                check_length(header[0], int.from_bytes(header[2:6], "big"), self._longest_data)
            except TooMuchError as error:
                self._abort(str(error))
                raise OSError(str(error)) from error
            self._in_pdu = True
        return header

    def wait(self) -> None:
        """Until something can be read, or for a moment, which is longer before the A-ASSOCIATE-RQ."""
        sock, state = self.socket, self.assoc.dul.state_machine.current_state
        awaits_request = state == AWAITS_REQUEST
        reads = self.reads and state != ENDED and (awaits_request or self.assoc.is_established)
        if sock is None or not self._is_connected or not reads:
            time.sleep(IDLE_S)
        elif not self.ready:
            with suppress(OSError, ValueError):  # closed meanwhile
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                poll.poll(SILENT_POLL_MS if awaits_request else POLL_MS)

    def send(self, bytestream: bytes) -> None:
        """Send; a peer that does not read is not waited for longer than for one that does not send."""
        if self.socket is not None:
            self.socket.settimeout(self._pdu_timeout_s)
        super().send(bytestream)

    def shut_down(self) -> None:
        """End the connection now; threads that read or write on it get an error."""
        self._shutdown_socket()

    def _shutdown_socket(self) -> None:
        """Close it, even if the other side was faster; pynetdicom then leaves it to the garbage collector."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                self.socket.close()

    def _read_exactly(self, count: int) -> bytearray:
        assert self.socket is not None
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                log.info("association.slow", address=self.assoc.requestor.address)
                raise TimeoutError("a PDU did not come whole in time")
            self.socket.settimeout(left_s)
            received = self.socket.recv_into(view[got:])
            if not received:
                return data[:got]
            got += received
        return data

    def _abort(self, reason: str) -> None:
        log.warning("association.too_much", address=self.assoc.requestor.address, reason=reason)
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 2, 6  # by the provider: invalid PDU parameter value
        self.send(pdu.encode())
