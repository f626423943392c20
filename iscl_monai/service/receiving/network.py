"""The listening side: connections, TLS, associations; what is said on them is the receiver's."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from copy import deepcopy
from typing import Any, Protocol, cast

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass, VerificationServiceClass
from pynetdicom.service_class_n import StorageCommitmentServiceClass
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from iscl_monai.service.log import log
from iscl_monai.service.receiving.intake import SOP_CLASSES
from iscl_monai.service.receiving.upper import CarefulSocket, CarefulUpper, Spooler, SpoolingMessages

JOIN_S = 5.0
TOLD_S = 0.5  # for A-ABORT to leave

SERVICES: dict[type, tuple[tuple[str, ...], type[ServiceClass]]] = {
    C_ECHO: ((str(Verification),), VerificationServiceClass),
    C_STORE: (SOP_CLASSES, StorageServiceClass),
    N_ACTION: ((str(StorageCommitmentPushModel),), StorageCommitmentServiceClass),
    N_EVENT_REPORT: ((str(StorageCommitmentPushModel),), StorageCommitmentServiceClass),
}


class Desk(Spooler, Protocol):
    """Who decides about connections."""

    ssl_context: ssl.SSLContext | None
    longest_data: int
    patience_s: float

    def knock(self, caller: tuple[Any, ...]) -> bool:
        """Whether a connection may say who it is."""

    def ended(self, assoc: CarefulAssociation) -> None:
        """An association, or what never became one, has ended."""

    def left(self, caller: tuple[Any, ...]) -> None:
        """A connection has ended."""


class CarefulAssociation(Association):
    """An association that answers four kinds of request, and aborts at any other.

    Args:
        ae: ours.
        desk: see there.
        caller: address of the peer.
    """

    def __init__(self, ae: ApplicationEntity, desk: Desk, caller: tuple[Any, ...]) -> None:
        super().__init__(ae, "acceptor")
        self.desk = desk
        self.caller = caller
        self.dul = CarefulUpper(self)
        self.dimse = self._messages = SpoolingMessages(self, desk)
        self.acse_timeout = ae.acse_timeout  # once more: the setters hand them to the layer below
        self.network_timeout = ae.network_timeout

    def run_reactor(self) -> None:
        """The thread."""
        try:
            super().run_reactor()
        except Exception as error:
            log.exception("association.fault", address=self.requestor.address, error=type(error).__name__)
        finally:
            with suppress(Exception):
                self.dul.kill_dul()
                self.dul.join(JOIN_S)
                cast(CarefulSocket, self.dul.socket).close()
            self._messages.close()
            self.desk.ended(self)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        classes, service = SERVICES.get(type(msg), ((), ServiceClass))
        if context is None or str(context.abstract_syntax) not in classes or not msg.is_valid_request:
            log.warning("association.unexpected", address=self.requestor.address, message=type(msg).__name__)
            self._forget(msg)
            self.abort()
            return
        self._is_paused = True
        try:
            service(self).SCP(msg, context)
        except Exception as error:
            log.exception("association.fault", address=self.requestor.address, error=type(error).__name__)
            self.abort()
        finally:
            self._forget(msg)
            self._messages.serving = not self._messages.msg_queue.empty()
            self._is_paused = False

    def _forget(self, msg: Any) -> None:
        if getattr(msg, "_dataset_file", None) is not None:
            msg._dataset_file.discard()


class Handler(RequestHandler):
    """Makes an association of a connection; runs in a thread of its own."""

    server: Server

    def handle(self) -> None:
        """Shake hands, and start."""
        sock = self._secured(self.request)
        assoc = CarefulAssociation(self.ae, self.server.desk, self.client_address)
        assoc._server = self.server
        assoc.name = f"AcceptorThread@{self.client_address[0]}:{self.client_address[1]}"
        desk = self.server.desk
        assoc.set_socket(CarefulSocket(assoc, sock, desk.longest_data, desk.patience_s))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = self.server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.acceptor.supported_contexts = deepcopy(self.server.contexts)
        assoc.requestor.address_info = self.remote
        for event, bound in self.server._handlers.items():
            for handler in [bound] if isinstance(bound, tuple) else bound:
                assoc.bind(event, *handler)
        assoc.start()

    def _secured(self, sock: socket.socket) -> socket.socket:
        """TLS if it is asked for, within the time that a peer has for anything."""
        context = self.server.desk.ssl_context
        if context is None:
            return sock
        sock.settimeout(self.server.desk.patience_s)
        secured = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.request = secured  # what is shut down if anything fails
        enough = threading.Timer(self.server.desk.patience_s, _cut, [secured])
        enough.daemon = True
        enough.start()
        try:
            secured.do_handshake()
        except (OSError, ValueError) as error:
            log.warning("association.tls_failed", address=self.client_address[0], error=_told(error))
            _cut(secured)
            secured.close()
            raise ConnectionError from error
        finally:
            enough.cancel()
        return secured


class Server(ThreadedAssociationServer):
    """Listens.

    Args:
        ae: ours.
        address: to listen on.
        contexts: that are accepted.
        handlers: of pynetdicom's events.
        desk: see there.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        handlers: list[Any],
        desk: Desk,
    ) -> None:
        self.desk = desk
        super().__init__(ae, address, ae.ae_title, contexts, evt_handlers=handlers, request_handler=Handler)
        ae._servers.append(self)  # where shutdown removes it
        self._gc = [0, 599]  # polls between two times that pynetdicom has all garbage collected; we poll more often

    def end_all(self) -> None:
        """Abort what still goes on; a peer in the middle of a PDU cannot be told, and is cut off."""
        left = self.active_associations
        for association in left:
            association.abort(block=False)
        for association in _wait_for(left, TOLD_S):
            cast(CarefulSocket, association.dul.socket).cut()
        _wait_for(left, JOIN_S)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is let in at all."""
        return self.desk.knock(client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that has not become an association."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.warning("connection.fault", address=client_address[0], error=type(error).__name__)
        self.desk.left(client_address)


def _wait_for(associations: list[Association], timeout_s: float) -> list[Association]:
    """Those that still live after that time."""
    until = time.monotonic() + timeout_s
    for association in associations:
        association.join(max(0.0, until - time.monotonic()))
    return [association for association in associations if association.is_alive()]


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _told(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)
