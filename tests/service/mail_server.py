"""A mail server for one mail, by TLS from the first byte or after STARTTLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from service.certificates import Certificates

EHLO = "250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS"
ANSWERS = {"EHLO": EHLO, "AUTH": "235 welcome", "STAR": "220 go on", "DATA": "354 go on", "QUIT": "221 bye"}


@dataclass
class MailServer:
    """What it was told.

    Args:
        context: its certificate.
        refuse: text of lines that it refuses.
    """

    context: ssl.SSLContext
    refuse: str = ""
    lines: list[str] = field(default_factory=list)

    def talk(self, connection: Any, *, greet: bool = True) -> None:
        """Until the client quits."""
        file = connection.makefile("rwb")
        if greet:
            self._answer(file, "220 here")
        for raw in file:
            line = raw.decode().rstrip("\r\n")
            self.lines.append(line)
            refused = self.refuse and self.refuse in line
            self._answer(file, "550 no" if refused else ANSWERS.get(line[:4].upper(), "250 ok"))
            if line == "STARTTLS":
                self.talk_by_tls(connection, greet=False)
            elif line.upper() == "DATA":
                self._take(file)
            if line.upper() in ("STARTTLS", "QUIT"):
                return

    def talk_by_tls(self, connection: Any, *, greet: bool = True) -> None:
        """The same, after a handshake."""
        with self.context.wrap_socket(connection, server_side=True) as secured:
            self.talk(secured, greet=greet)

    def _take(self, file: Any) -> None:
        for raw in file:
            self.lines.append(raw.decode().rstrip("\r\n"))
            if self.lines[-1] == ".":
                break
        self._answer(file, "250 taken")

    def _answer(self, file: Any, text: str) -> None:
        file.write(f"{text}\r\n".encode())
        file.flush()


@contextmanager
def mail_server(certificates: Certificates, *, tls: bool, refuse: str = "") -> Iterator[tuple[int, list[str]]]:
    """Its port, and the lines that it was told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.pacs.certificate, certificates.pacs.key)
    server = MailServer(context, refuse)

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError, ValueError):  # the client does not like the certificate
            (server.talk_by_tls if tls else server.talk)(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], server.lines
        thread.join()
