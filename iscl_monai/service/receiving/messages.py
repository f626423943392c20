"""pynetdicom's DIMSE messages, put together from their fragments: objects on the disk, all others in little memory.

pynetdicom itself keeps data sets in memory, however long they become.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from iscl_monai.service.log import log
from iscl_monai.service.receiving.limits import Pace, TooMuchError
from iscl_monai.service.receiving.sockets import LimitedSocket
from iscl_monai.service.receiving.spool import Spool
from iscl_monai.service.receiving.store_response import command_set, fragments

if TYPE_CHECKING:
    from pynetdicom.association import Association

LONGEST_COMMAND = 64 * 2**10
LONGEST_MESSAGE = 16 * 2**20  # of a request that is no object: commitment of 100,000 objects
MOST_UNANSWERED = 8  # requests on one association; honest peers wait for each answer
WAIT_S = 0.01  # for the next request, after which timers are looked at


class Spooler(Protocol):
    """Gives places for objects that come in; implemented by the receiver."""

    def spool(self, assoc: Association, context_id: int, sop_uids: tuple[str, str]) -> Spool:
        """A place for an object that is coming, by the SOP Class and Instance UID of its request."""

    def record_use(self, assoc: Association) -> None:
        """An association has brought something: a request that is no mere C-ECHO, or a good part of an object."""

    def too_large(self, assoc: Association, sop_uids: tuple[str, str], reason: str) -> None:
        """An object was larger than objects may be; the association ends."""


class SpoolingMessages(DIMSEServiceProvider):
    """Puts messages together from their fragments: objects on the disk, all others in little memory.

    Args:
        assoc: the association.
        spooler: gives places for objects.
        within_s: how long a portion of a message may take, see :class:`iscl_monai.service.receiving.limits.Pace`.
    """

    def __init__(self, assoc: Association, spooler: Spooler, within_s: float) -> None:
        super().__init__(assoc)
        self._pace = Pace(within_s)
        self._spooler = spooler
        self._spool: Spool | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.serving = False  # a request has come whole, and is not answered yet

    def get_msg(self, block: bool = False) -> Any:
        """The next request; waits a moment for it, instead of looking again and again."""
        with suppress(queue.Empty):
            return self.msg_queue.get(timeout=WAIT_S)
        return None, None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; the answer to a C-STORE, of which there are many, in bytes of our own."""
        if not isinstance(primitive, C_STORE) or primitive.MessageIDBeingRespondedTo is None:
            super().send_msg(primitive, context_id)
            return
        for data in fragments(command_set(primitive), self.maximum_pdu_size):
            part = P_DATA()
            part.presentation_data_value_list.append((context_id, data))
            self.dul.send_pdu(part)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA-TF; an invalid one ends the association."""
        with self._lock:
            if self._closed:
                return
            try:
                for context_id, data in primitive.presentation_data_value_list:
                    self._add_fragment(context_id, data)
            except Exception as error:  # hostile bytes make pydicom raise nearly anything
                self._closed = True
                self._discard_partial(too_large=isinstance(error, TooMuchError), reason=str(error))
                log.warning("association.invalid", address=self.assoc.requestor.address, error=type(error).__name__)
                cast(LimitedSocket, self.dul.socket).reads = False
                self.dul.event_queue.put("Evt19")  # invalid PDU: pynetdicom aborts

    def close(self) -> None:
        """The association has ended: discard what is not complete, or not handled."""
        with self._lock:
            self._closed = True
            self._discard_partial()
            while not self.msg_queue.empty():
                _, request = self.msg_queue.get(block=False)
                spool = getattr(request, "_dataset_file", None)
                if spool is not None:
                    spool.discard()

    def _add_fragment(self, context_id: int, data: bytes) -> None:
        if not data or context_id not in self.assoc._accepted_cx:
            raise ValueError("an empty fragment, or one of no accepted presentation context")
        if self.message is None:
            self._pace.begin()
        elif self._pace.add(len(data)):
            self._spooler.record_use(self.assoc)
        is_command, message = bool(data[0] & 1), self.message or DIMSEMessage()
        awaits_data = message.context_id is not None
        if is_command == awaits_data or (awaits_data and context_id != message.context_id):
            raise ValueError("a fragment out of order")
        self.message = message
        self._check_size(message, is_command, len(data))
        fragment = P_DATA()
        fragment.presentation_data_value_list.append((context_id, data))
        if message.decode_msg(fragment, self.assoc):
            self._deliver(message)
        elif is_command and isinstance(message, C_STORE_RQ):
            self._spool = self._spooler.spool(self.assoc, context_id, _sop_uids(message))
            message._data_set_file, message._data_set_path = cast(Any, self._spool), self._spool.path

    def _check_size(self, message: DIMSEMessage, is_command: bool, added: int) -> None:
        if is_command and message.encoded_command_set.tell() + added > LONGEST_COMMAND:
            raise ValueError("a command that does not end")
        if not is_command and message.data_set is not None and message.data_set.tell() + added > LONGEST_MESSAGE:
            raise ValueError("a request that does not end")

    def _deliver(self, message: DIMSEMessage) -> None:
        if self._spool is not None:
            self._spool.complete()
        request = message.message_to_primitive()
        if self.msg_queue.qsize() >= MOST_UNANSWERED:
            raise ValueError("too many requests without waiting for their responses")
        self.message = self._spool = None
        if not isinstance(request, (C_ECHO, C_CANCEL)):
            self._spooler.record_use(self.assoc)
        if not isinstance(request, C_CANCEL):  # there is nothing here that could be cancelled
            self.serving = True
            self.msg_queue.put(cast(Any, (message.context_id, request)))

    def _discard_partial(self, *, too_large: bool = False, reason: str = "") -> None:
        message, self.message = self.message, None
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.discard()
            if too_large:
                self._spooler.too_large(self.assoc, _sop_uids(message), reason)


def _sop_uids(message: Any) -> tuple[str, str]:
    """SOP Class and Instance UID of a request; "" for what it lacks."""
    command = message.command_set
    return str(command.get("AffectedSOPClassUID") or ""), str(command.get("AffectedSOPInstanceUID") or "")
