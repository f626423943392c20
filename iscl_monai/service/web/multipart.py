"""The parts of a multipart body (RFC 2046) as its bytes come in; memory does not grow with it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Literal

LONGEST_HEADERS = 8 * 1024
LONGEST_PREAMBLE = 8 * 1024
LONGEST_PADDING = 256
CRLF = b"\r\n"


class MalformedError(Exception):
    """The body is no multipart of that boundary."""


@dataclass(frozen=True)
class Begin:
    """A part begins.

    Args:
        content_type: in lower case, without parameters; ``""`` if none is told.
    """

    content_type: str


@dataclass(frozen=True)
class Data:
    """Bytes of the part."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class End:
    """The part is complete."""


Event = Begin | Data | End


def boundary_of(content_type: str) -> tuple[str, str, bytes]:
    """Media type, parameter ``type`` and boundary of a Content-Type.

    Raises:
        MalformedError: there is no boundary, or one that RFC 2046 does not allow.
    """
    message = Message()
    message["content-type"] = content_type
    boundary = str(message.get_param("boundary") or "")
    if message.get_content_maintype() != "multipart":
        return message.get_content_type(), "", b""
    if not re.fullmatch(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]", boundary, re.ASCII):
        raise MalformedError("no boundary, or none that RFC 2046 allows")
    return message.get_content_type(), str(message.get_param("type") or "").lower(), boundary.encode()


class Scanner:
    """Finds the parts.

    Args:
        boundary: from :func:`boundary_of`.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = CRLF + b"--" + boundary
        self._held = bytearray(CRLF)  # as if a line had ended before: the first delimiter has none
        self._state: Literal["preamble", "headers", "body", "epilogue"] = "preamble"
        self._skipped = 0
        self._strip = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """What these bytes complete.

        Raises:
            MalformedError: no part begins where one should, or its headers do not end.
        """
        if self._state == "epilogue":
            return
        self._held += data
        going_on = True
        while going_on:
            going_on = yield from self._headers() if self._state == "headers" else self._content()

    def finish(self) -> None:
        """The body has ended.

        Raises:
            MalformedError: its last boundary is missing.
        """
        if self._state != "epilogue":
            raise MalformedError("it ends before its last boundary")

    def _headers(self) -> Generator[Event, None, bool]:
        end = self._held.find(CRLF + CRLF)  # the first of them ends the line of the boundary
        if end < 0:
            if len(self._held) > LONGEST_HEADERS:
                raise MalformedError("headers of a part that do not end")
            return False
        if end > LONGEST_HEADERS:
            raise MalformedError("headers of a part are too long")
        told = bytes(self._held[:end]).decode("latin-1")
        # The line break after them stays, for it may be that of a delimiter: the part then has no bytes.
        del self._held[: end + 2]
        self._strip = 2
        self._state = "body"
        yield Begin(_content_type(told))
        return True

    def _content(self) -> Generator[Event, None, bool]:
        """Bytes up to the next delimiter, of which a part may be here only."""
        start = 0
        while True:
            found = self._held.find(self._delimiter, start)
            if found < 0:
                # What may be the beginning of a delimiter stays.
                last = self._held.rfind(b"\r", max(0, len(self._held) - len(self._delimiter) + 1))
                yield from self._pass(len(self._held) if last < 0 else last)
                return False
            after = found + len(self._delimiter)
            kind = self._line_end(after)
            if kind is None:
                yield from self._pass(found)
                return False
            if kind != "none":
                break
            start = found + 1
        yield from self._pass(found)
        if self._state == "body":
            yield End()
        if kind == "part":
            del self._held[: self._held.find(CRLF, len(self._delimiter))]
            self._state = "headers"
            return True
        self._held.clear()
        self._state = "epilogue"
        return False

    def _line_end(self, after: int) -> Literal["part", "last", "none"] | None:
        """What follows a delimiter; None when that is not here yet."""
        rest = bytes(self._held[after : after + LONGEST_PADDING])
        if rest.startswith(b"--"):
            return "last"
        line = rest.lstrip(b" \t")
        if line.startswith(CRLF):
            return "part"
        if rest == b"-" or (line in (b"", b"\r") and len(rest) < LONGEST_PADDING):
            return None
        return "none"

    def _pass(self, count: int) -> Iterator[Event]:
        if count <= 0:
            return
        if self._state == "body":
            strip = min(self._strip, count)
            self._strip -= strip
            data = bytes(self._held[strip:count])
            del self._held[:count]
            if data:
                yield Data(data)
            return
        self._skipped += count
        del self._held[:count]
        if self._skipped > LONGEST_PREAMBLE:
            raise MalformedError("the first boundary does not come")


def _content_type(headers: str) -> str:
    for line in headers.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""
