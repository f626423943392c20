"""pynetdicom's layers below an association, with limits: what comes is hostile until it has proved otherwise.

pynetdicom waits for ever for the rest of a PDU, allocates what a header announces, keeps data sets in memory and lets
its thread die of what it cannot decode. These subclasses change that, and nothing else.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from iscl_monai.service.log import log
from iscl_monai.service.receiving.limits import TooMuchError, check_length, check_request
from iscl_monai.service.receiving.spool import Spool

if TYPE_CHECKING:
    from pynetdicom.association import Association

LONGEST_COMMAND = 64 * 2**10
LONGEST_MESSAGE = 16 * 2**20  # of a request that is no object: commitment of 100,000 objects
MOST_UNANSWERED = 8  # requests on one association; honest peers wait for each answer
LOOK_S = 0.002
WAIT_S = 0.01  # for something to come or to go, after which timers are looked at
ASSOCIATE_REQUEST = 1


class Spooler(Protocol):
    """Who knows where objects go."""

    def spool(self, assoc: Association, context_id: int, named: tuple[str, str]) -> Spool:
        """A place for an object that is coming."""

    def too_large(self, assoc: Association, named: tuple[str, str], reason: str) -> None:
        """It was larger than objects may be; the association ends."""


class CarefulSocket(AssociationSocket):
    """Reads no PDU that is longer than its kind may be, and waits for none longer than it should take.

    Args:
        assoc: the association.
        client_socket: connected.
        longest_data: bytes of a P-DATA-TF.
        patience_s: for one PDU, to come or to go.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket, longest_data: int, patience_s: float) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._longest_data = longest_data
        self._patience_s = patience_s
        self._until = 0.0
        self._in_pdu = False
        self.reads = True  # no more after the first thing that makes no sense: the connection is about to end
        client_socket.settimeout(patience_s)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def ready(self) -> bool:
        """Whether something can be read; poll, since select knows no more than 1,024 files."""
        sock = self.socket
        ended = self.assoc.dul.state_machine.current_state == "Sta13"  # whatever still comes does not matter
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
        """What pynetdicom asks for: six bytes of a header, then as many as it announced.

        Raises:
            OSError: they are too many, or do not come in time; pynetdicom then closes the connection.
        """
        if self._in_pdu:
            self._in_pdu = False
            return self._exactly(nr_bytes)
        self._until = time.monotonic() + self._patience_s
        header = self._exactly(nr_bytes)
        self.reads = len(header) == nr_bytes and 1 <= header[0] <= 7
        if self.reads:
            try:
                check_length(header[0], int.from_bytes(header[2:6], "big"), self._longest_data)
            except TooMuchError as error:
                self._refuse(str(error))
                raise OSError(str(error)) from error
            self._in_pdu = True
        return header

    def wait(self) -> None:
        """Until something can be read, or for a moment."""
        sock = self.socket
        ended = self.assoc.dul.state_machine.current_state == "Sta13"
        if sock is None or not self._is_connected or ended or not self.reads or not self.assoc.is_established:
            time.sleep(LOOK_S / 2)
        elif not self.ready:
            with suppress(OSError, ValueError):  # closed meanwhile
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                poll.poll(WAIT_S * 1000)

    def send(self, bytestream: bytes) -> None:
        """Send; a peer that does not read is not waited for longer than for one that does not send."""
        if self.socket is not None:
            self.socket.settimeout(self._patience_s)
        super().send(bytestream)

    def cut(self) -> None:
        """End the connection now; whoever reads or writes on it is told."""
        self._shutdown_socket()

    def _shutdown_socket(self) -> None:
        """Close it, even if the other side was faster; pynetdicom then leaves it to the garbage collector."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                self.socket.close()

    def _exactly(self, count: int) -> bytearray:
        assert self.socket is not None
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                log.info("association.slow", address=self.assoc.requestor.address)
                raise TimeoutError("a PDU did not come whole in time")
            self.socket.settimeout(left_s)
            came = self.socket.recv_into(view[got:])
            if not came:
                return data[:got]
            got += came
        return data

    def _refuse(self, reason: str) -> None:
        log.warning("association.too_much", address=self.assoc.requestor.address, reason=reason)
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 2, 6  # by the provider: invalid PDU parameter value
        self.send(pdu.encode())


class CarefulUpper(DULServiceProvider):
    """Looks at a request before it is taken apart, and ends in order whatever happens."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True

    @property
    def _run_loop_delay(self) -> float:
        """How long pynetdicom sleeps when there was nothing to do: no more, after waiting for something.

        With a thousand looks per second, twenty associations take a processor for themselves.
        """
        going = self.to_provider_queue
        if cast(SpoolingMessages, self.assoc.dimse).serving:  # the peer waits too
            with going.not_empty:
                if not going.queue:
                    going.not_empty.wait(WAIT_S)
        elif self.socket is not None:
            cast(CarefulSocket, self.socket).wait()
        return 0.0

    @_run_loop_delay.setter
    def _run_loop_delay(self, _: float) -> None:
        """What pynetdicom begins with."""

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        try:
            if bytestream[0] == ASSOCIATE_REQUEST:
                check_request(bytes(bytestream))
            return super()._decode_pdu(bytestream)
        except Exception:  # pynetdicom takes it for an invalid PDU, and aborts
            cast(CarefulSocket, self.socket).reads = False
            raise

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """The next primitive; a connection that has ended is not waited for."""
        until = time.monotonic() + timeout if timeout is not None else float("inf")
        while wait and self.to_user_queue.empty() and self.is_alive() and time.monotonic() < until:
            time.sleep(LOOK_S)
        return super().receive_pdu(wait=False)

    def run_reactor(self) -> None:
        """The thread."""
        try:
            super().run_reactor()
        except Exception as error:  # an event that its table does not know, or a PDU that it cannot turn into words
            log.warning("association.fault", address=self.assoc.requestor.address, error=type(error).__name__)
            if self.socket is not None:
                self.socket.close()


class SpoolingMessages(DIMSEServiceProvider):
    """Puts messages together from their fragments: objects on the disk, all others in little memory.

    Args:
        assoc: the association.
        spooler: see there.
    """

    def __init__(self, assoc: Association, spooler: Spooler) -> None:
        super().__init__(assoc)
        self._spooler = spooler
        self._spool: Spool | None = None
        self._closed = False
        self._fragments = threading.Lock()
        self.serving = False  # a request has come whole, and is not answered yet

    def get_msg(self, block: bool = False) -> Any:
        """The next request; one that is about to come is waited for a moment, instead of looking again and again."""
        with suppress(queue.Empty):
            return self.msg_queue.get(timeout=WAIT_S)
        return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take what one P-DATA-TF brought; what makes no sense ends the association."""
        with self._fragments:
            if self._closed:
                return
            try:
                for context_id, data in primitive.presentation_data_value_list:
                    self._take(context_id, data)
            except Exception as error:  # hostile bytes make pydicom raise nearly anything
                self._closed = True
                self._let_go(too_large=isinstance(error, TooMuchError), reason=str(error))
                log.warning("association.invalid", address=self.assoc.requestor.address, error=type(error).__name__)
                cast(CarefulSocket, self.dul.socket).reads = False
                self.dul.event_queue.put("Evt19")  # invalid PDU: pynetdicom aborts

    def close(self) -> None:
        """The association has ended: nothing half remains."""
        with self._fragments:
            self._closed = True
            self._let_go()
            while not self.msg_queue.empty():
                _, request = self.msg_queue.get(block=False)
                spool = getattr(request, "_dataset_file", None)
                if spool is not None:
                    spool.discard()

    def _take(self, context_id: int, data: bytes) -> None:
        if not data or context_id not in self.assoc._accepted_cx:
            raise ValueError("an empty fragment, or one of no accepted context")
        is_command, message = bool(data[0] & 1), self.message or DIMSEMessage()
        awaits_data = message.context_id is not None
        if is_command == awaits_data or (awaits_data and context_id != message.context_id):
            raise ValueError("a fragment that does not belong here")
        self.message = message
        self._check_size(message, is_command, len(data))
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, data))
        if message.decode_msg(fragment, self.assoc):
            self._deliver(message)
        elif is_command and isinstance(message, C_STORE_RQ):
            self._spool = self._spooler.spool(self.assoc, context_id, _named(message))
            message._data_set_file, message._data_set_path = cast(Any, self._spool), self._spool.path

    def _check_size(self, message: DIMSEMessage, is_command: bool, more: int) -> None:
        if is_command and message.encoded_command_set.tell() + more > LONGEST_COMMAND:
            raise ValueError("a command that does not end")
        if not is_command and message.data_set is not None and message.data_set.tell() + more > LONGEST_MESSAGE:
            raise ValueError("a request that does not end")

    def _deliver(self, message: DIMSEMessage) -> None:
        if self._spool is not None:
            self._spool.complete()
        request = message.message_to_primitive()
        if self.msg_queue.qsize() >= MOST_UNANSWERED:
            raise ValueError("requests come faster than answers are waited for")
        self.message = self._spool = None
        if not isinstance(request, C_CANCEL):  # there is nothing here that could be cancelled
            self.serving = True
            self.msg_queue.put(cast(Any, (message.context_id, request)))

    def _let_go(self, *, too_large: bool = False, reason: str = "") -> None:
        message, self.message = self.message, None
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.discard()
            if too_large:
                self._spooler.too_large(self.assoc, _named(message), reason)


def _named(message: Any) -> tuple[str, str]:
    """SOP Class and Instance UID of a request; "" for what it does not say."""
    told = message.command_set
    return str(told.get("AffectedSOPClassUID") or ""), str(told.get("AffectedSOPInstanceUID") or "")
