"""The listening side of the pages: a uvicorn in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.settings import Settings
from iscl_monai.service.web.connections import Connections
from iscl_monai.service.web_settings import Web

LARGEST_HEADERS = 16 * 1024
CONNECTIONS = 256
LOCAL_CONNECTIONS = 16  # beyond these, of this machine, where probes come from
HEADERS_WITHIN_S = 20.0
GRACE_S = 5


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 with limits that uvicorn lacks: a time for the headers of a request, and places for connections.

    Args:
        arguments: uvicorn's.
        connections: that are open.
        more: uvicorn's.
    """

    _header_timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, connections: Connections, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._connections = connections

    @property
    def address(self) -> str:
        """See :class:`iscl_monai.service.web.connections.Connection`."""
        return self.client[0] if self.client else ""

    @property
    def waits_for_client(self) -> bool:
        """See :class:`iscl_monai.service.web.connections.Connection`."""
        if self.conn.their_state is h11.SEND_BODY:
            return self.flow is not None and not self.flow.read_paused
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def end(self) -> None:
        """See :class:`iscl_monai.service.web.connections.Connection`."""
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if self._connections.add(self):
            self._update_timer()
        else:
            self.end()

    def data_received(self, data: bytes) -> None:
        """Data came."""
        self._connections.spoke(self)
        super().data_received(data)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._connections.remove(self)
        super().connection_lost(exc)
        if self._header_timer is not None:
            self._header_timer.cancel()

    def _update_timer(self) -> None:
        waiting = self.conn.their_state is h11.IDLE
        if not waiting and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        elif waiting and self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADERS_WITHIN_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._header_timer = None
        if self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class WebServer:
    """Serves an application.

    Args:
        settings: of the node.
        app: from :func:`iscl_monai.service.web.app.create_app`.

    Raises:
        ConfigRefusal: the certificate or its key cannot be used.
    """

    def __init__(self, settings: Settings, app: FastAPI) -> None:
        web = settings.web
        self.web = web
        self.connections = Connections(CONNECTIONS, LOCAL_CONNECTIONS)
        protocol: Any = partial(LimitedProtocol, connections=self.connections)  # uvicorn only calls it
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the address of a client is found out by site.client_address
            h11_max_incomplete_event_size=LARGEST_HEADERS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=GRACE_S,
        )
        config.load()
        config.ssl = _ssl_context(web)
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def check_port(self) -> None:
        """Find out whether :meth:`start` would have its port, without listening.

        Raises:
            ConfigRefusal: the port is taken, or the address is not this machine's.
        """
        _bind(self.web, listen=False).close()

    def start(self) -> None:
        """Listen; requests are answered when this returns.

        Raises:
            ConfigRefusal: the port is taken, or the address is not this machine's.
        """
        self._socket = _bind(self.web)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout_s: float = GRACE_S + 5.0) -> bool:
        """Answer the requests that have come, and end; whether it has ended in time."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()
        return not self.alive

    def _run(self) -> None:
        """Signals are not touched: uvicorn only takes them in the main thread."""
        self._server.run(sockets=[self._socket] if self._socket else None)


def _bind(web: Web, *, listen: bool = True) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(web.host, web.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            if listen:
                bound.listen(128)  # from here on the system accepts connections, which wait until the thread runs
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigRefusal(
            f"cannot listen on {web.host}:{web.port} ({error.strerror or error})",
            allowed="an address of this machine and a free port",
            cure="change [web] host or port, or end what listens there",
        ) from error
    return bound


def _ssl_context(web: Web) -> ssl.SSLContext | None:
    if web.certificate is None or web.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(web.certificate, web.key, password=_refuse_password)
    except (OSError, ValueError) as error:
        raise ConfigRefusal(
            f"{web.certificate} and {web.key}: {getattr(error, 'strerror', None) or error}",
            allowed="a certificate and its key in PEM form, without a password",
            cure="correct [web] certificate and key",
        ) from error
    return context


def _refuse_password() -> bytes:
    """Refuse an encrypted key: OpenSSL would ask on a terminal, where a service waits for ever."""
    raise ValueError("the key is encrypted")
