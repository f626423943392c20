"""Client of DICOMweb servers: search (QIDO-RS), and retrieval of whole series (WADO-RS).

httpx and not dicomweb-client: that one decodes and encodes every object anew, holds whole answers in memory several
times over, and raises at a 409 before its body, which says what became of each object, can be read.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.multipart import MalformedError, PartBegin, PartData, PartReader, parse_content_type
from iscl_monai.service.sending.dimse import QueryFailedError, UnreachableError
from iscl_monai.service.web_trust import bearer_header, trusted_authorities

CONNECT_S = 15.0
PAGE = 500
MOST_PAGES = 200
LONGEST_ANSWER = 64 * 2**20  # of a search, or of what became of objects; images are not limited by this


class DicomWebClient:
    """Client of a DICOMweb server.

    Args:
        peer: has a url.
        timeout_s: of silence.
    """

    def __init__(self, peer: Peer, timeout_s: float) -> None:
        self.peer = peer
        self.timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))

    @contextmanager
    def request(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        """A response whose body has not been read yet.

        Raises:
            UnreachableError: there is none, or its status is about the server or about us (:func:`_check_status`).
        """
        headers = {**more.pop("headers", {}), **self._authorization()}
        try:
            # proxies of the environment lead to the internet, where no PACS is
            with (
                httpx.Client(verify=self._ssl_context(), timeout=self.timeout, trust_env=False) as client,
                client.stream(method, f"{self.peer.url}{path}", headers=headers, **more) as response,
            ):
                _check_status(response)
                yield response
        except httpx.HTTPError as error:
            message = " ".join(str(error).split())[:200]
            raise UnreachableError(f"{self.peer.url}: {type(error).__name__} {message}") from error

    def search(self, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
        """Everything that a QIDO-RS search finds, page by page.

        Raises:
            UnreachableError: see :meth:`request`; or the response is none of QIDO-RS.
        """
        seen = 0
        first: Any = None
        for _ in range(MOST_PAGES):
            parameters = {**query, "limit": str(PAGE), "offset": str(seen)}
            headers = {"Accept": "application/dicom+json"}
            with self.request("GET", path, params=parameters, headers=headers) as response:
                if response.status_code == 404:  # from some servers, where the standard has an empty answer
                    return
                if response.status_code >= 400:
                    raise RefusedError(f"{self.peer.url}{path} answers {response.status_code}")
                found = [] if response.status_code == 204 else _json(response)
            if not found or found[0] == first:  # servers have smaller pages than ours, or know none at all
                return
            yield from found
            first = found[0]
            seen += len(found)

    def retrieve(self, path: str, new_part: Callable[[], Path], longest: int) -> Iterator[Path]:
        """All objects below a path by WADO-RS, each as a file of its own, written as its bytes come in.

        Raises:
            UnreachableError: see :meth:`request`; or the response ends early, or an object is longer than allowed.
        """
        headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        with self.request("GET", path, headers=headers) as response:
            if response.status_code != 200:
                raise UnreachableError(f"{self.peer.url}{path} answers {response.status_code}")
            files = _PartFiles(PartReader(_boundary(response)), new_part, longest)
            try:
                for block in response.iter_bytes():
                    yield from files.write(block)
            except MalformedError as error:
                raise UnreachableError(f"{self.peer.url}{path} answers no multipart/related: {error}") from error
            finally:
                files.close()
            if not files.reader.ended:
                raise UnreachableError(f"{self.peer.url}{path}: the answer ended early")

    def _authorization(self) -> dict[str, str]:
        try:
            return bearer_header(self.peer.token_file)
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError(f"{self.peer.token_file}: {getattr(error, 'strerror', None) or error}") from error

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            return trusted_authorities(self.peer.ca)
        except OSError as error:  # ssl.SSLError is one
            raise UnreachableError(f"{self.peer.ca}: {error.strerror or error}") from error


class GatewayError(UnreachableError):
    """A gateway between us and the server gave up; that may be due to the request."""


class RefusedError(QueryFailedError):
    """The server refuses this request, or its answer to it is none; others may succeed."""


def _check_status(response: httpx.Response) -> None:
    """Refuse statuses that are about the server or about us, not about an object."""
    meaning = {401: "it does not accept our token", 403: "it does not let us", 429: "it asks us to wait"}
    code = response.status_code
    if code in meaning or code > 500:  # 500 itself may well be about an object that it stumbles over
        reason = meaning.get(code) or response.reason_phrase
        kind = GatewayError if code in (502, 504) else UnreachableError
        raise kind(f"{response.url.host} answers {code}: {reason}")
    if 300 <= code < 400:
        raise UnreachableError(f"{response.url.host} answers {code}: it sends us elsewhere, and we do not follow")


def _json(response: httpx.Response) -> list[Any]:
    try:
        found = httpx.Response(200, content=read_limited(response)).json()
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{response.url.host} answers no JSON") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RefusedError(f"{response.url.host} answers no list of objects")
    return found


def read_limited(response: httpx.Response) -> bytes:
    """The body of a response that has to fit into memory.

    Raises:
        RefusedError: it is longer than any sensible one.
    """
    body = b""
    for block in response.iter_bytes():
        body += block
        if len(body) > LONGEST_ANSWER:
            raise RefusedError(f"{response.url.host} answers more than {LONGEST_ANSWER >> 20} MB")
    return body


def json_values(found: Mapping[str, Any], tag: str) -> list[str]:
    """The values of an element in the DICOM JSON model, as text; none if it is absent or malformed."""
    element = found.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [str(one) for one in values] if isinstance(values, list) else []


def _boundary(response: httpx.Response) -> bytes:
    try:
        media_type, _, boundary = parse_content_type(response.headers.get("Content-Type", ""))
    except MalformedError:
        media_type, boundary = "", b""
    if media_type != "multipart/related":
        raise UnreachableError(f"{response.url.host} answers no multipart/related")
    return boundary


class _PartFiles:
    """Writes each part of a response to a file of its own.

    Args:
        reader: splits the body into its parts.
        new_part: gives a path for the next object.
        longest: bytes that an object may have.
    """

    def __init__(self, reader: PartReader, new_part: Callable[[], Path], longest: int) -> None:
        self.reader = reader
        self.new_part = new_part
        self.longest = longest
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0

    def write(self, block: bytes) -> Iterator[Path]:
        """Files that these bytes complete; the caller removes them."""
        for event in self.reader.feed(block):
            if isinstance(event, PartBegin):
                self._path, self._size = self.new_part(), 0
                self._file = self._path.open("wb")
            elif isinstance(event, PartData):
                self._append(event.data)
            elif self._file is not None and self._path is not None:
                self._file.close()
                path, self._path, self._file = self._path, None, None
                yield path

    def close(self) -> None:
        """Remove what has not been completed."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self.longest:
            raise UnreachableError(f"an object is longer than {self.longest >> 20} MB")
        if self._file is not None:
            self._file.write(data)
