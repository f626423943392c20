"""Associations that we open: to send objects, to request commitments, to query and to retrieve."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation, AssociationSocket

from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.sending.association_messages import AssociationMessages
from iscl_monai.service.settings import Settings
from iscl_monai.service.tls import client_context

ABORT_S = 1.0
RELEASE_S = 5.0  # for the response to A-RELEASE, which nothing depends on
CONNECT_S = 15.0  # at most; a machine that is up answers within milliseconds


class UnreachableError(Exception):
    """A peer cannot be reached now: it is down, busy, or rejects us. Its text is the reason."""


class QueryFailedError(UnreachableError):
    """A peer was reached, and this one query failed; others may succeed."""


class NoAnswerError(QueryFailedError):
    """A peer did not answer a query, or ended the association instead."""


class NotOfferedError(UnreachableError):
    """A peer accepts the association, but none of the SOP Classes that we proposed."""


def presentation_contexts(sop_classes: Iterable[str]) -> list[PresentationContext]:
    """One for each SOP Class and transfer syntax, so that a peer may accept several; Explicit Little Endian first."""
    proposed = sorted(set(sop_classes))
    return [
        build_context(sop_class, syntax)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        for sop_class in proposed
    ]


class _ClientSocket(AssociationSocket):
    """Keeps the reason why it could not connect, is closed then, and does not wait for ever for a peer that hangs."""

    error: OSError | None = None

    def connect(self, primitive: Any) -> None:
        """As pynetdicom's, which only logs what went wrong and leaves the socket open."""
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


class _ClientAE(AE):
    """Connects by :class:`_ClientSocket`."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        made = _ClientSocket(assoc, address=address)
        made.tls_args = tls_args
        return made


class DimseClient:
    """Opens associations with a peer; another thread may abort them.

    Args:
        settings: of the node.
        peer: has a host and a port.
    """

    def __init__(self, settings: Settings, peer: Peer) -> None:
        self.settings = settings
        self.peer = peer
        self._open: list[Association] = []
        self._messages: dict[Association, AssociationMessages] = {}
        self._aborted = False
        self._lock = threading.Lock()

    def open(
        self,
        contexts: list[PresentationContext],
        handlers: Iterable[tuple[Any, Callable[[evt.Event], Any]]] = (),
        response_timeout_s: float | None = None,
        roles: Iterable[SCP_SCU_RoleSelectionNegotiation] = (),
    ) -> Association:
        """Open an association, to be closed by :meth:`close`.

        Args:
            contexts: presentation contexts to propose.
            handlers: of events.
            response_timeout_s: how long to wait for each response; default: the node's timeout.
            roles: to propose, where they are not the default ones (SCU for us).

        Raises:
            UnreachableError: there is none; its text says why.
            ConfigRefusal: the node's certificate cannot be used.
        """
        if self._aborted:
            raise UnreachableError("the node stops")
        association = self._associate(contexts, handlers, response_timeout_s or self.settings.node.timeout_s)
        if not association.is_established:
            self._remove(association)
            reason = _why_not_established(association, f"{self.peer.ae_title} at {self.peer.host}:{self.peer.port}")
            _close_socket(association)
            raise reason
        association.acse_timeout = min(RELEASE_S, self.settings.node.timeout_s)
        self._messages[association] = AssociationMessages(association)
        return association

    def _associate(
        self, contexts: list[PresentationContext], handlers: Iterable[Any], response_timeout_s: float
    ) -> Association:
        host, node = str(self.peer.host), self.settings.node
        ae = _ClientAE(ae_title=node.ae_title)
        ae.connection_timeout = ae.acse_timeout = min(CONNECT_S, node.timeout_s)
        ae.network_timeout = ae.dimse_timeout = response_timeout_s
        tls = node.tls if self.peer.tls else None
        try:
            return ae.associate(
                host,
                int(self.peer.port or 0),
                contexts=contexts,
                ae_title=str(self.peer.ae_title),
                max_pdu=node.max_pdu_bytes,
                tls_args=(client_context(tls), host) if tls else None,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._handle_connection_open), *handlers],
            )
        except OSError as error:  # no such host
            raise UnreachableError(f"{host}: {error.strerror or error}") from error

    def close(self, association: Association) -> None:
        """Release it if it is still established."""
        if association.is_established and association.is_alive() and not self._aborted:
            self._messages[association].pause()
            association.release()
        elif association.is_established:  # its thread has ended, and can release no more
            association.abort(block=False)
        _close_socket(association)
        self._remove(association)

    @contextmanager
    def association(self, *arguments: Any, **more: Any) -> Iterator[Association]:
        """The same as :meth:`open`, closed at the end."""
        association = self.open(*arguments, **more)
        try:
            yield association
        finally:
            self.close(association)

    def abort_all(self) -> None:
        """Abort all associations, and open none any more; who waits for a response on one gets none."""
        with self._lock:
            established = list(self._open)
            self._aborted = True
        for association in established:
            association.abort(block=False)
            if association.is_alive():
                association.join(ABORT_S)
            if association.is_alive() and association.dul.socket is not None:  # it hangs in the middle of a PDU
                association.dul.socket.close()
            # pynetdicom ends the wait for a response only if the peer has aborted
            association.dimse.msg_queue.put((None, None))

    def _handle_connection_open(self, event: evt.Event) -> None:
        with self._lock:
            self._open.append(event.assoc)

    def _remove(self, association: Association) -> None:
        with self._lock:
            self._open[:] = [other for other in self._open if other is not association]
            self._messages.pop(association, None)


def _close_socket(association: Association) -> None:
    """Close the socket of an association whose threads have ended; pynetdicom leaves it open."""
    association.dul.join(ABORT_S)
    transport = association.dul.socket
    if transport is not None and transport.socket is not None and not association.dul.is_alive():
        transport.socket.close()


def _why_not_established(association: Association, peer: str) -> UnreachableError:
    answer = association.acceptor.primitive
    error = getattr(association.dul.socket, "error", None)
    if error is not None:
        return UnreachableError(f"no connection with {peer}: {error.strerror or error}")
    if association.is_rejected and answer is not None:
        return UnreachableError(f"{peer} rejects the association: {answer.reason_str}")
    if answer is not None and association.rejected_contexts and not association.accepted_contexts:
        return NotOfferedError(f"{peer} accepts none of the SOP Classes proposed")
    return UnreachableError(f"{peer} did not accept the association")
