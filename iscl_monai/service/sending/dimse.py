"""Associations that we open: to send objects, to ask for commitments, to query and to retrieve."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation, AssociationSocket

from iscl_monai.service.settings import Peer, Settings
from iscl_monai.service.tls import client_context

ABORT_S = 1.0
LOOK_S = 0.1  # whether an association from which an answer is awaited still lives
RELEASE_S = 5.0  # to say good-bye, which is no more than polite
CONNECT_S = 15.0  # at most; a machine that is up answers within milliseconds


class UnreachableError(Exception):
    """A peer cannot be spoken with now: it is down, busy, or does not let us in. Its text is the reason."""


class NotOfferedError(UnreachableError):
    """A peer speaks with us, but accepts none of the SOP Classes that we proposed."""


def contexts(sop_classes: Iterable[str]) -> list[PresentationContext]:
    """One for each SOP Class and syntax, so that a peer may accept several: Explicit Little Endian comes first."""
    proposed = sorted(set(sop_classes))
    return [
        build_context(sop_class, syntax)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        for sop_class in proposed
    ]


class _Socket(AssociationSocket):
    """One that tells why it could not connect, leaks nothing, and does not wait for ever for a peer that hangs."""

    error: OSError | None = None

    def connect(self, primitive: Any) -> None:
        """As pynetdicom's, which only logs what went wrong and lets the socket lie."""
        assert self.socket is not None
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(self.assoc.connection_timeout)
            self.socket.connect(primitive.address_info.as_tuple)
            if self.tls_args:
                context, name = self.tls_args
                self.socket = context.wrap_socket(self.socket, server_hostname=name)
            self.socket.settimeout(self.assoc.network_timeout)  # also for sending: pynetdicom would wait for ever
            self.assoc.requestor.address_info = AddressInformation.from_tuple(self.socket.getsockname())
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"  # transport connection confirmed
        except OSError as error:
            self.error = error
            self.socket.close()
            self.socket = None
            primitive.result = "Evt17"  # transport connection closed
        self.provider_queue.put(primitive)
        self._ready.set()


class _Answers:
    """The answers on an association; who waits for one is told when there is none to come.

    pynetdicom says so once, and whoever begins to wait after that waits for the whole timeout.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._queue = association.dimse.msg_queue

    def get_msg(self, block: bool = False) -> tuple[Any, Any]:
        """The next one; with ``block`` it is waited for as long as it may come."""
        until = time.monotonic() + (self._association.dimse_timeout or float("inf") if block else 0.0)
        while True:
            alive = self._association.is_alive() and self._association.dul.is_alive()  # before the look, not after
            with suppress(queue.Empty):
                return self._queue.get(timeout=LOOK_S) if block and alive else self._queue.get_nowait()
            if not alive or time.monotonic() >= until:
                return None, None


class _AE(AE):
    """Makes such sockets."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        made = _Socket(assoc, address=address)
        made.tls_args = tls_args
        return made


class Line:
    """Opens associations with a peer, of which another thread may end whatever is going on.

    Args:
        settings: of the node.
        peer: has a host and a port.
    """

    def __init__(self, settings: Settings, peer: Peer) -> None:
        self.settings = settings
        self.peer = peer
        self._open: list[Association] = []
        self._hung_up = False
        self._lock = threading.Lock()

    def open(
        self,
        wanted: list[PresentationContext],
        handlers: Iterable[tuple[Any, Callable[[evt.Event], Any]]] = (),
        answer_s: float | None = None,
        roles: Iterable[SCP_SCU_RoleSelectionNegotiation] = (),
    ) -> Association:
        """An association, to be closed by :meth:`close`.

        Args:
            wanted: presentation contexts.
            handlers: of events.
            answer_s: how long to wait for each answer; default: the node's timeout.
            roles: that we propose, where they are not the usual ones.

        Raises:
            UnreachableError: there is none, for the reason that it tells.
            ConfigRefusal: the node's certificate cannot be used.
        """
        if self._hung_up:
            raise UnreachableError("the node stops")
        association = self._associate(wanted, handlers, answer_s or self.settings.node.timeout_s)
        if not association.is_established:
            self._forget(association)
            why = _why_not(association, f"{self.peer.ae_title} at {self.peer.host}:{self.peer.port}")
            _let_go(association)
            raise why
        association.acse_timeout = min(RELEASE_S, self.settings.node.timeout_s)
        association.dimse.get_msg = _Answers(association).get_msg  # type: ignore[method-assign]
        return association

    def _associate(self, wanted: list[PresentationContext], handlers: Iterable[Any], answer_s: float) -> Association:
        host, node = str(self.peer.host), self.settings.node
        ae = _AE(ae_title=node.ae_title)
        ae.connection_timeout = ae.acse_timeout = min(CONNECT_S, node.timeout_s)
        ae.network_timeout = ae.dimse_timeout = answer_s
        tls = node.tls if self.peer.tls else None
        try:
            return ae.associate(
                host,
                int(self.peer.port or 0),
                contexts=wanted,
                ae_title=str(self.peer.ae_title),
                max_pdu=node.max_pdu_bytes,
                tls_args=(client_context(tls), host) if tls else None,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._connected), *handlers],
            )
        except OSError as error:  # no such host
            raise UnreachableError(f"{host}: {error.strerror or error}") from error

    def close(self, association: Association) -> None:
        """Release it if it still stands."""
        if association.is_established and association.is_alive() and not self._hung_up:
            association.release()
        elif association.is_established:  # its thread has ended, and would be waited for in vain
            association.abort(block=False)
        _let_go(association)
        self._forget(association)

    @contextmanager
    def opened(self, *arguments: Any, **more: Any) -> Iterator[Association]:
        """The same as :meth:`open`, closed at the end."""
        association = self.open(*arguments, **more)
        try:
            yield association
        finally:
            self.close(association)

    def hang_up(self) -> None:
        """End all associations at once, for good; whoever waits for an answer on one is told that there is none."""
        with self._lock:
            standing = list(self._open)
            self._hung_up = True
        for association in standing:
            association.abort(block=False)
            if association.is_alive():
                association.join(ABORT_S)
            if association.is_alive() and association.dul.socket is not None:  # it hangs in the middle of a PDU
                association.dul.socket.close()
            # pynetdicom tells who waits for an answer only when it was the peer that aborted
            association.dimse.msg_queue.put((None, None))

    def _connected(self, event: evt.Event) -> None:
        with self._lock:
            self._open.append(event.assoc)

    def _forget(self, association: Association) -> None:
        with self._lock:
            self._open[:] = [one for one in self._open if one is not association]


def _let_go(association: Association) -> None:
    """Close the socket of an association whose threads have ended: nobody else would."""
    association.dul.join(ABORT_S)
    made = association.dul.socket
    if made is not None and made.socket is not None and not association.dul.is_alive():
        made.socket.close()


def _why_not(association: Association, who: str) -> UnreachableError:
    answer = association.acceptor.primitive
    error = getattr(association.dul.socket, "error", None)
    if error is not None:
        return UnreachableError(f"no connection with {who}: {error.strerror or error}")
    if association.is_rejected and answer is not None:
        return UnreachableError(f"{who} rejects the association: {answer.reason_str}")
    if answer is not None and association.rejected_contexts and not association.accepted_contexts:
        return NotOfferedError(f"{who} accepts none of the SOP Classes proposed")
    return UnreachableError(f"{who} did not accept the association")
