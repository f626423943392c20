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
class PartBegin:
    """A part begins.

    Args:
        content_type: in lower case, without parameters; ``""`` if the part has none.
    """

    content_type: str


@dataclass(frozen=True)
class PartData:
    """Bytes of the part."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class PartEnd:
    """The part is complete."""


Event = PartBegin | PartData | PartEnd


def parse_content_type(header: str) -> tuple[str, str, bytes]:
    """Media type, parameter ``type`` and boundary of a Content-Type; no boundary if it is no multipart.

    Raises:
        MalformedError: a multipart without a boundary, or with one that RFC 2046 does not allow.
    """
    message = Message()
    message["content-type"] = header
    boundary = str(message.get_param("boundary") or "")
    if message.get_content_maintype() != "multipart":
        return message.get_content_type(), "", b""
    if not re.fullmatch(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]", boundary, re.ASCII):
        raise MalformedError("no boundary, or none that RFC 2046 allows")
    return message.get_content_type(), str(message.get_param("type") or "").lower(), boundary.encode()


class PartReader:
    """Splits a body into its parts. Why it is our own: docs/decisions/0010-multipart.md.

    Args:
        boundary: from :func:`parse_content_type`.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = CRLF + b"--" + boundary
        self._buffer = bytearray(CRLF)  # as if a line had ended before: the first delimiter has none
        self._state: Literal["preamble", "headers", "body", "epilogue"] = "preamble"
        self._preamble_bytes = 0
        self._line_end_left = 0  # bytes of the line break behind the headers that are still in the buffer

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events that these bytes complete.

        Raises:
            MalformedError: no part begins where one should, or its headers do not end.
        """
        if self._state == "epilogue":
            return
        self._buffer += data
        more = True
        while more:
            more = yield from self._read_headers() if self._state == "headers" else self._read_content()

    @property
    def ended(self) -> bool:
        """Whether the last boundary has come; a body without it is not whole."""
        return self._state == "epilogue"

    def finish(self) -> None:
        """The body has ended.

        Raises:
            MalformedError: its last boundary is missing.
        """
        if not self.ended:
            raise MalformedError("it ends before its last boundary")

    def _read_headers(self) -> Generator[Event, None, bool]:
        """Read the headers of a part, if all of them have come; whether they had."""
        end = self._buffer.find(CRLF + CRLF)  # the first of them ends the line of the boundary
        if end < 0:
            if len(self._buffer) > LONGEST_HEADERS:
                raise MalformedError("headers of a part that do not end")
            return False
        if end > LONGEST_HEADERS:
            raise MalformedError("headers of a part are too long")
        headers = bytes(self._buffer[:end]).decode("latin-1")
        # The line break after them stays, for it may be that of a delimiter: the part then has no bytes.
        del self._buffer[: end + 2]
        self._line_end_left = 2
        self._state = "body"
        yield PartBegin(_content_type(headers))
        return True

    def _read_content(self) -> Generator[Event, None, bool]:
        """Emit what stands before the next delimiter, or as much of it as has come."""
        start = 0
        while True:
            found = self._buffer.find(self._delimiter, start)
            if found < 0:
                # What may be the beginning of a delimiter stays.
                last = self._buffer.rfind(b"\r", max(0, len(self._buffer) - len(self._delimiter) + 1))
                yield from self._emit(len(self._buffer) if last < 0 else last)
                return False
            after = found + len(self._delimiter)
            kind = self._after_delimiter(after)
            if kind is None:
                yield from self._emit(found)
                return False
            if kind != "none":
                break
            start = found + 1
        yield from self._emit(found)
        if self._state == "body":
            yield PartEnd()
        if kind == "part":
            del self._buffer[: self._buffer.find(CRLF, len(self._delimiter))]
            self._state = "headers"
            return True
        self._buffer.clear()
        self._state = "epilogue"
        return False

    def _after_delimiter(self, after: int) -> Literal["part", "last", "none"] | None:
        """What follows a delimiter; None when too few bytes have come to know."""
        rest = bytes(self._buffer[after : after + LONGEST_PADDING])
        if rest.startswith(b"--"):
            return "last"
        line = rest.lstrip(b" \t")
        if line.startswith(CRLF):
            return "part"
        if rest == b"-" or (line in (b"", b"\r") and len(rest) < LONGEST_PADDING):
            return None
        return "none"

    def _emit(self, count: int) -> Iterator[Event]:
        """Take bytes from the buffer: content of the part, or preamble, which is dropped."""
        if count <= 0:
            return
        if self._state == "body":
            skipped = min(self._line_end_left, count)
            self._line_end_left -= skipped
            data = bytes(self._buffer[skipped:count])
            del self._buffer[:count]
            if data:
                yield PartData(data)
            return
        self._preamble_bytes += count
        del self._buffer[:count]
        if self._preamble_bytes > LONGEST_PREAMBLE:
            raise MalformedError("the first boundary does not come")


def _content_type(headers: str) -> str:
    for line in headers.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""
