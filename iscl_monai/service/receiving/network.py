"""The listening side: connections, TLS, associations; their requests are handled by the receiver."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.log import log
from iscl_monai.service.receiving.intake import SOP_CLASSES
from iscl_monai.service.receiving.messages import Spooler, SpoolingMessages
from iscl_monai.service.receiving.sockets import LimitedSocket
from iscl_monai.service.receiving.upper_layer import LimitedUpperLayer

JOIN_S = 5.0
ABORT_SENT_S = 0.5  # for A-ABORT to be sent

SERVICES: dict[type, tuple[tuple[str, ...], type[ServiceClass]]] = {
    C_ECHO: ((str(Verification),), VerificationServiceClass),
    C_STORE: (SOP_CLASSES, StorageServiceClass),
    N_ACTION: ((str(StorageCommitmentPushModel),), StorageCommitmentServiceClass),
    N_EVENT_REPORT: ((str(StorageCommitmentPushModel),), StorageCommitmentServiceClass),
}


class ConnectionHandler(Spooler, Protocol):
    """Decides about connections; implemented by :class:`iscl_monai.service.receiving.receiver.Receiver`."""

    ssl_context: ssl.SSLContext | None
    longest_data: int
    pdu_timeout_s: float
    associate_within_s: float

    def admit_connection(self, caller: tuple[Any, ...]) -> None:
        """A connection has come, and may send its A-ASSOCIATE-RQ; another one that says nothing may have to end."""

    def association_ended(self, assoc: LimitedAssociation) -> None:
        """An association, or what never became one, has ended."""

    def connection_ended(self, caller: tuple[Any, ...]) -> None:
        """A connection has ended without an association."""


class LimitedAssociation(Association):
    """An association that answers four kinds of request, and aborts at any other.

    Args:
        ae: ours.
        handler: decides about connections.
        caller: address of the peer.
    """

    def __init__(self, ae: ApplicationEntity, handler: ConnectionHandler, caller: tuple[Any, ...]) -> None:
        super().__init__(ae, "acceptor")
        self.handler = handler
        self.caller = caller
        self.dul = LimitedUpperLayer(self)
        self.dimse = self._messages = SpoolingMessages(self, handler, handler.pdu_timeout_s)
        self.acse_timeout = ae.acse_timeout  # once more: the setters pass them on to the upper layer
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
            with suppress(Exception):  # also when the upper layer was never started, and could not be waited for
                cast(LimitedSocket, self.dul.socket).close()
            self._messages.close()
            self.handler.association_ended(self)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        classes, service = SERVICES.get(type(msg), ((), ServiceClass))
        if context is None or str(context.abstract_syntax) not in classes or not msg.is_valid_request:
            log.warning("association.unexpected", address=self.requestor.address, message=type(msg).__name__)
            self._discard_data_set(msg)
            self.abort()
            return
        self._is_paused = True
        try:
            service(self).SCP(msg, context)
        except Exception as error:
            log.exception("association.fault", address=self.requestor.address, error=type(error).__name__)
            self.abort()
        finally:
            self._discard_data_set(msg)
            self._messages.serving = not self._messages.msg_queue.empty()
            self._is_paused = False

    def _discard_data_set(self, msg: Any) -> None:
        if getattr(msg, "_dataset_file", None) is not None:
            msg._dataset_file.discard()


class AssociationRequestHandler(RequestHandler):
    """Makes an association of a connection; runs in a thread of its own."""

    server: AssociationServer

    def handle(self) -> None:
        """Secure the connection, and start the association."""
        associate_by = time.monotonic() + self.server.handler.associate_within_s
        sock = self._secure(self.request)
        assoc = LimitedAssociation(self.ae, self.server.handler, self.client_address)
        assoc._server = self.server
        assoc.name = f"AcceptorThread@{self.client_address[0]}:{self.client_address[1]}"
        limits = self.server.handler
        assoc.set_socket(LimitedSocket(assoc, sock, limits.longest_data, limits.pdu_timeout_s, associate_by))
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
        if self.server.ending:  # too late to be among those that were ended
            self.server.end([assoc])

    def _secure(self, sock: socket.socket) -> socket.socket:
        """Shake hands for TLS if it is configured, within the time that an A-ASSOCIATE-RQ may take."""
        context = self.server.handler.ssl_context
        if context is None:
            return sock
        within_s = self.server.handler.associate_within_s
        sock.settimeout(within_s)
        secured = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.request = secured  # what is shut down if anything fails
        self.server.register(self.client_address, secured)
        timer = threading.Timer(within_s, _shut_down, [secured])
        timer.daemon = True
        timer.start()
        try:
            secured.do_handshake()
        except (OSError, ValueError) as error:
            log.warning("association.tls_failed", address=self.client_address[0], error=_reason(error))
            _shut_down(secured)
            secured.close()
            raise ConnectionError from error
        finally:
            timer.cancel()
        return secured


class AssociationServer(ThreadedAssociationServer):
    """Listens for associations.

    Args:
        ae: ours.
        address: to listen on.
        contexts: that are accepted.
        handlers: of pynetdicom's events.
        handler: decides about connections.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        handlers: list[Any],
        handler: ConnectionHandler,
    ) -> None:
        self.handler = handler
        self.ending = False
        self._sockets: dict[tuple[Any, ...], socket.socket] = {}
        super().__init__(
            ae, address, ae.ae_title, contexts, evt_handlers=handlers, request_handler=AssociationRequestHandler
        )
        ae._servers.append(self)  # where shutdown removes it
        self._gc = [0, 599]  # polls between two times that pynetdicom has all garbage collected; we poll more often

    def end_all(self) -> None:
        """Abort what still goes on, and what begins while we look: connections that were accepted just before."""
        self.ending = True
        self.end(self.active_associations)

    def end(self, associations: list[Association]) -> None:
        """Abort associations; in the middle of a PDU no A-ABORT can be sent, and the connection is shut down."""
        for association in associations:
            association.abort(block=False)
        _wait_for(associations, ABORT_SENT_S)
        for association in associations:  # one that seems over may have a socket that nobody has closed
            with suppress(Exception):
                cast(LimitedSocket, association.dul.socket).shut_down()
        _wait_for(associations, JOIN_S)

    def register(self, caller: tuple[Any, ...], sock: socket.socket) -> None:
        """Remember the socket of a connection, so that it can be ended by its caller."""
        self._sockets[caller] = sock

    def forget(self, caller: tuple[Any, ...]) -> None:
        """A connection has ended."""
        self._sockets.pop(caller, None)

    def end_connection(self, caller: tuple[Any, ...]) -> None:
        """End a connection now, whatever its threads wait for."""
        sock = self._sockets.pop(caller, None)
        if sock is not None:
            _shut_down(sock)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """A connection has come; somebody else's may have to end for it."""
        self.register(client_address, request)
        self.handler.admit_connection(client_address)
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the fault of a connection that has not become an association."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.warning("connection.fault", address=client_address[0], error=type(error).__name__)
        self.handler.connection_ended(client_address)


@contextmanager
def port_refusal(host: str, port: int) -> Iterator[None]:
    """Refuse an address or port that cannot be had in one line."""
    try:
        yield
    except OSError as error:
        raise ConfigRefusal(
            f"{host}:{port}: {error.strerror or error}",
            allowed="an address of this machine and a port that is free",
            cure="change host or port of [node], or end what listens there",
        ) from error


def _wait_for(associations: list[Association], timeout_s: float) -> list[Association]:
    """Those that still go on after that time: the thread that reads the connection may outlive the association's."""
    until = time.monotonic() + timeout_s
    threads = {association: (association, association.dul) for association in associations}
    for thread in (thread for pair in threads.values() for thread in pair if thread.ident is not None):
        thread.join(max(0.0, until - time.monotonic()))
    return [association for association, pair in threads.items() if any(thread.is_alive() for thread in pair)]


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)
