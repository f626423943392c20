"""STOW-RS: objects stream from their files to a DICOMweb server, which tells what became of each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from iscl_monai.service.sending.carriers import Answer, CutError, Row, describe
from iscl_monai.service.sending.dicomweb import GatewayError, Web, limited, value
from iscl_monai.service.sending.dimse import UnreachableError

AT_ONCE = 32  # objects, and
BYTES_AT_ONCE = 64 * 2**20  # bytes in one request; a broken connection costs no more than this

# How a connection ends that an object may have broken; one that was never made is about the server.
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.WriteTimeout)

SOP_INSTANCE, FAILED, STORED = "00081155", "00081198", "00081199"
FAILURE_REASON, WARNING_REASON = "00081197", "00081196"


class StowRS:
    """STOW-RS, several objects in each request.

    Args:
        web: the server.
        data: folder that files are below.
    """

    def __init__(self, web: Web, data: Path) -> None:
        self.web = web
        self.data = data
        self._stopped = False
        self._at_once = AT_ONCE  # fewer after a request that the server did not survive

    def carry(self, rows: Sequence[Row], wanted: Callable[[Row], bool]) -> Generator[Answer, None, None]:
        """See :class:`iscl_monai.service.sending.carriers.Carrier`."""
        group: list[tuple[Row, Path]] = []
        size = 0
        for row in rows:
            path = self.data / row["file"]
            if not path.is_file():
                yield Answer(row, "gone", "its file is not there any more")
                continue
            if group and (len(group) >= self._at_once or size + path.stat().st_size > BYTES_AT_ONCE):
                yield from self._post_each(group, wanted)
                group, size = [], 0
            group.append((row, path))
            size += path.stat().st_size
        if group:
            yield from self._post_each(group, wanted)

    def hang_up(self) -> None:
        """See :class:`~iscl_monai.service.sending.carriers.Carrier`; a request ends by itself, at the timeout."""
        self._stopped = True

    def _post_each(self, group: list[tuple[Row, Path]], wanted: Callable[[Row], bool]) -> Iterator[Answer]:
        """Together; one by one if the server refuses all of them without saying which it means."""
        group = [(row, path) for row, path in group if wanted(row)]
        answers = self._post(group) if group else []
        if answers is not None:
            yield from answers
            return
        for one in group:
            yield from self._post([one]) or [Answer(one[0], "refused", "the server refuses it and tells no reason")]

    def _post(self, group: list[tuple[Row, Path]]) -> list[Answer] | None:
        boundary = secrets.token_hex(16)
        files = _Body([path for _, path in group], boundary, lambda: self._stopped)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(files.length),  # known beforehand: not every server takes chunks
            "Accept": "application/dicom+json",
        }
        try:
            with self.web.asked("POST", "/studies", content=files, headers=headers) as answer:
                code, body = answer.status_code, limited(answer)
        except OSError as error:
            gone = Answer(group[0][0], "gone", f"its file cannot be read: {error.strerror}")
            return None if len(group) > 1 else [gone]
        except UnreachableError as error:
            if isinstance(error, GatewayError) or isinstance(error.__cause__, BROKEN):
                if len(group) == 1:
                    raise CutError(str(error), group[0][0]) from error
                self._at_once = max(1, len(group) // 2)  # one of them may be what breaks it: which one?
            raise
        self._at_once = min(AT_ONCE, 2 * self._at_once)
        return _answers([row for row, _ in group], code, body)


def _answers(rows: list[Row], code: int, body: bytes) -> list[Answer] | None:
    """What the server said of each object (PS3.18 10.5.3); None when it refused several without saying which."""
    told = _parsed(body)
    failed = {uid: item for item in _items(told, FAILED) for uid in value(item, SOP_INSTANCE)}
    stored = {uid: item for item in _items(told, STORED) for uid in value(item, SOP_INSTANCE)}
    if code not in (200, 202, 409) or not (failed or stored):
        if code == 200:  # by the standard all of them are stored then
            return [Answer(row, "sent") for row in rows]
        if len(rows) > 1:
            return None
        return [Answer(rows[0], "later" if code == 500 else "refused", f"the server answers {code}")]
    return [
        _answer(row, code, failed.get(row["sop_instance_uid"]), stored.get(row["sop_instance_uid"])) for row in rows
    ]


def _answer(row: Row, code: int, failed: Mapping[str, Any] | None, stored: Mapping[str, Any] | None) -> Answer:
    if failed is not None:
        reason = _code(failed, FAILURE_REASON)
        kind: Any = "later" if reason is not None and 0xA700 <= reason <= 0xA7FF else "refused"
        return Answer(row, kind, f"{code}: " + (describe(reason) if reason is not None else "no reason told"))
    if stored is None:
        return Answer(row, "refused", f"{code}, and the answer does not mention it")
    warning = _code(stored, WARNING_REASON)
    return Answer(row, "sent", describe(warning) if warning else "")


def _code(item: Mapping[str, Any], tag: str) -> int | None:
    try:
        return int(value(item, tag)[0])
    except (IndexError, ValueError):
        return None


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    if isinstance(told, list) and told:  # some servers wrap it
        told = told[0]
    return told if isinstance(told, dict) else {}


def _items(told: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = told.get(tag)
    items = element.get("Value") if isinstance(element, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


class _Body:
    """A multipart/related body, read from its files while it is sent."""

    def __init__(self, paths: list[Path], boundary: str, stopped: Callable[[], bool]) -> None:
        self.paths = paths
        self.stopped = stopped
        self.head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self.tail = f"--{boundary}--\r\n".encode()
        sizes = [path.stat().st_size for path in paths]
        self.length = sum(sizes) + len(paths) * (len(self.head) + 2) + len(self.tail)

    def __iter__(self) -> Iterator[bytes]:
        for path in self.paths:
            yield self.head
            with path.open("rb") as file:
                yield from self._blocks(file)
            yield b"\r\n"
        yield self.tail

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        while block := file.read(2**18):
            if self.stopped():
                raise UnreachableError("the node stops")
            yield block
