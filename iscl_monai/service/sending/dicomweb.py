"""What we ask of DICOMweb servers: to search (QIDO-RS), and for whole series (WADO-RS).

httpx and not dicomweb-client: that one decodes and encodes every object anew, holds whole answers in memory several
times over, and raises at a 409 before its body, which tells the fate of each object, can be read.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from iscl_monai.service.sending.dimse import UnreachableError
from iscl_monai.service.settings import Peer

CONNECT_S = 15.0
PAGE = 500
MOST_PAGES = 200
LONGEST_ANSWER = 64 * 2**20  # of a search, or of what became of objects; images are not limited by this


class Web:
    """A DICOMweb server.

    Args:
        peer: has a url.
        timeout_s: of silence.
    """

    def __init__(self, peer: Peer, timeout_s: float) -> None:
        self.peer = peer
        self.timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))

    @contextmanager
    def asked(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        """An answer whose body has not been read yet.

        Raises:
            UnreachableError: there is none, or it says that we shall not, or that now is not the time.
        """
        headers = {**more.pop("headers", {}), **self._authorization()}
        try:
            # proxies of the environment lead to the internet, where no PACS is
            with (
                httpx.Client(verify=self._trusted(), timeout=self.timeout, trust_env=False) as client,
                client.stream(method, f"{self.peer.url}{path}", headers=headers, **more) as answer,
            ):
                _check(answer)
                yield answer
        except httpx.HTTPError as error:
            told = " ".join(str(error).split())[:200]
            raise UnreachableError(f"{self.peer.url}: {type(error).__name__} {told}") from error

    def search(self, path: str, **wanted: str) -> Iterator[Mapping[str, Any]]:
        """Everything that a QIDO-RS search finds, page by page.

        Raises:
            UnreachableError: see :meth:`asked`; or the answer is none of QIDO-RS.
        """
        seen = 0
        first: Any = None
        for _ in range(MOST_PAGES):
            parameters = {**wanted, "limit": str(PAGE), "offset": str(seen)}
            headers = {"Accept": "application/dicom+json"}
            with self.asked("GET", path, params=parameters, headers=headers) as answer:
                if answer.status_code == 404:  # some say so where the standard has an empty answer
                    return
                if answer.status_code >= 400:
                    raise RefusedError(f"{self.peer.url}{path} answers {answer.status_code}")
                found = [] if answer.status_code == 204 else _json(answer)
            if not found or found[0] == first:  # servers have smaller pages than ours, or know none at all
                return
            yield from found
            first = found[0]
            seen += len(found)

    def retrieve(self, path: str, new_part: Callable[[], Path], longest: int) -> Iterator[Path]:
        """All objects below a path by WADO-RS, each as a file of its own, written as its bytes come in.

        Raises:
            UnreachableError: see :meth:`asked`; also when the answer ends early, or an object is longer than allowed.
        """
        headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        with self.asked("GET", path, headers=headers) as answer:
            if answer.status_code != 200:
                raise UnreachableError(f"{self.peer.url}{path} answers {answer.status_code}")
            parts = _Parts(_boundary(answer), new_part, longest)
            try:
                for block in answer.iter_bytes():
                    parts.parser.write(block)
                    yield from parts.complete()
            except MultipartParseError as error:
                raise UnreachableError(f"{self.peer.url}{path} answers no multipart/related: {error}") from error
            finally:
                parts.close()
            if not parts.ended:
                raise UnreachableError(f"{self.peer.url}{path}: the answer ended early")

    def _authorization(self) -> dict[str, str]:
        if self.peer.token_file is None:
            return {}
        try:  # read every time: a token is renewed while we run
            return {"Authorization": f"Bearer {self.peer.token_file.read_text(encoding='utf-8').strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError(f"{self.peer.token_file}: {getattr(error, 'strerror', None) or error}") from error

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.peer.ca) if self.peer.ca else None)
        except OSError as error:  # ssl.SSLError is one
            raise UnreachableError(f"{self.peer.ca}: {error.strerror or error}") from error


class GatewayError(UnreachableError):
    """Something between us and the server gave up; that may be the fault of what was asked."""


class RefusedError(UnreachableError):
    """An answer about what was asked, and not about the server."""


def _check(answer: httpx.Response) -> None:
    """Answers that tell about the server or about us, not about an object."""
    meaning = {401: "it does not accept our token", 403: "it does not let us", 429: "it asks us to wait"}
    code = answer.status_code
    if code in meaning or code > 500:  # 500 itself may well be about an object that it stumbles over
        told = meaning.get(code) or answer.reason_phrase
        kind = GatewayError if code in (502, 504) else UnreachableError
        raise kind(f"{answer.url.host} answers {code}: {told}")
    if 300 <= code < 400:
        raise UnreachableError(f"{answer.url.host} answers {code}: it sends us elsewhere, and we do not follow")


def _json(answer: httpx.Response) -> list[Any]:
    try:
        found = httpx.Response(200, content=limited(answer)).json()
    except ValueError as error:
        raise UnreachableError(f"{answer.url.host} answers no JSON") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnreachableError(f"{answer.url.host} answers no list of objects")
    return found


def limited(answer: httpx.Response) -> bytes:
    """The body of an answer that has to fit into memory.

    Raises:
        UnreachableError: it is longer than any sensible one.
    """
    body = b""
    for block in answer.iter_bytes():
        body += block
        if len(body) > LONGEST_ANSWER:
            raise UnreachableError(f"{answer.url.host} answers more than {LONGEST_ANSWER >> 20} MB")
    return body


def value(found: Mapping[str, Any], tag: str) -> list[str]:
    """The values of an element in the DICOM JSON model, as text; none if it is absent or not as it should be."""
    element = found.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [str(one) for one in values] if isinstance(values, list) else []


def _boundary(answer: httpx.Response) -> str:
    told = Message()
    told["Content-Type"] = answer.headers.get("Content-Type", "")
    boundary = told.get_param("boundary")
    if told.get_content_type() != "multipart/related" or not isinstance(boundary, str) or not boundary:
        raise UnreachableError(f"{answer.url.host} answers no multipart/related")
    return boundary


class _Parts:
    """Writes each part to a file of its own."""

    def __init__(self, boundary: str, new_part: Callable[[], Path], longest: int) -> None:
        self.new_part = new_part
        self.longest = longest
        self.ended = False
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._complete: list[Path] = []
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._all,
            },
        )

    def complete(self) -> Iterator[Path]:
        """Files that are whole; whoever takes one owns it."""
        while self._complete:
            yield self._complete.pop(0)

    def close(self) -> None:
        """Nobody wants the rest."""
        if self._file is not None:
            self._file.close()
        for path in [*self._complete, *([self._path] if self._path else [])]:
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._path, self._size = self.new_part(), 0
        self._file = self._path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self.longest:
            raise UnreachableError(f"an object is longer than {self.longest >> 20} MB")
        if self._file is not None:
            self._file.write(data[start:end])

    def _end(self) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            self._complete.append(self._path)
        self._file = self._path = None

    def _all(self) -> None:
        self.ended = True
