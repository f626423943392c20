"""STOW-RS: objects stream from their files to a DICOMweb server, which answers what became of each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.sending.carriers import (
    ConnectionLostError,
    ResultKind,
    SendResult,
    describe_status,
    fault_of,
)
from iscl_monai.service.sending.dicomweb import DicomWebClient, GatewayError, RefusedError, json_values, read_limited
from iscl_monai.service.sending.dimse import UnreachableError

AT_ONCE = 32  # objects, and
BYTES_AT_ONCE = 64 * 2**20  # bytes in one request; a broken connection costs no more than this

# How a connection ends that an object may have broken; one that was never made is about the server.
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.WriteTimeout)

SOP_INSTANCE, FAILED, STORED = "00081155", "00081198", "00081199"
FAILURE_REASON, WARNING_REASON = "00081197", "00081196"


class StowRS:
    """Sends by STOW-RS, several objects in each request.

    Args:
        client: of the server.
        data: folder that files are below.
    """

    def __init__(self, client: DicomWebClient, data: Path) -> None:
        self.client = client
        self.data = data
        self._stopped = False
        self._at_once = AT_ONCE  # fewer after a request that the server did not survive

    def send_all(
        self, rows: Sequence[DeliveryRow], still_wanted: Callable[[DeliveryRow], bool]
    ) -> Generator[SendResult, None, None]:
        """See :class:`iscl_monai.service.sending.carriers.Carrier`."""
        group: list[tuple[DeliveryRow, Path]] = []
        size = 0
        for row in rows:
            path = self.data / row.file
            try:
                added = path.stat().st_size
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                reason = "is not there any more" if missing else f"cannot be read: {error.strerror}"
                yield SendResult(row, "gone", f"its file {reason}")
                continue
            if group and (len(group) >= self._at_once or size + added > BYTES_AT_ONCE):
                yield from self._post_group(group, still_wanted)
                group, size = [], 0
            group.append((row, path))
            size += added
        if group:
            yield from self._post_group(group, still_wanted)

    def abort(self) -> None:
        """See :class:`~iscl_monai.service.sending.carriers.Carrier`; a request ends by itself, at the timeout."""
        self._stopped = True

    def _post_group(
        self, group: list[tuple[DeliveryRow, Path]], still_wanted: Callable[[DeliveryRow], bool]
    ) -> Iterator[SendResult]:
        """Post together; one by one if the server refuses all of them without saying which it means."""
        group = [(row, path) for row, path in group if still_wanted(row)]
        results = self._post(group) if group else []
        if results is not None:
            yield from results
            return
        for single in group:
            yield from self._post([single]) or [
                SendResult(single[0], "refused", "the server refuses it and gives no reason")
            ]

    def _post(self, group: list[tuple[DeliveryRow, Path]]) -> list[SendResult] | None:
        try:
            return self._post_together(group)
        except OSError as error:
            gone = SendResult(group[0][0], "gone", f"its file cannot be read: {error.strerror}")
            return None if len(group) > 1 else [gone]
        except RefusedError as error:
            return None if len(group) > 1 else [SendResult(group[0][0], "refused", str(error))]
        except UnreachableError:
            raise
        except Exception as error:  # one of them, or what the server answers: which one shows when they go one by one
            return None if len(group) > 1 else [fault_of(group[0][0], error)]

    def _post_together(self, group: list[tuple[DeliveryRow, Path]]) -> list[SendResult] | None:
        boundary = secrets.token_hex(16)
        files = _Body([path for _, path in group], boundary, lambda: self._stopped)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(files.length),  # known beforehand: not every server takes chunks
            "Accept": "application/dicom+json",
        }
        try:
            with self.client.request("POST", "/studies", content=files, headers=headers) as response:
                code, body = response.status_code, read_limited(response)
        except UnreachableError as error:
            if isinstance(error, GatewayError) or isinstance(error.__cause__, BROKEN):
                if len(group) == 1:
                    raise ConnectionLostError(str(error), group[0][0]) from error
                self._at_once = max(1, len(group) // 2)  # one of them may be what breaks it: which one?
            raise
        self._at_once = min(AT_ONCE, 2 * self._at_once)
        return _results([row for row, _ in group], code, body)


def _results(rows: list[DeliveryRow], code: int, body: bytes) -> list[SendResult] | None:
    """What the server answered of each object (PS3.18 10.5.3); None when it refused several without saying which."""
    dataset = _parse(body)
    failed = {uid: item for item in _items(dataset, FAILED) for uid in json_values(item, SOP_INSTANCE)}
    stored = {uid: item for item in _items(dataset, STORED) for uid in json_values(item, SOP_INSTANCE)}
    if code not in (200, 202, 409) or not (failed or stored):
        if code == 200:  # by the standard all of them are stored then
            return [SendResult(row, "sent") for row in rows]
        if len(rows) > 1:
            return None
        return [SendResult(rows[0], "later" if code == 500 else "refused", f"the server answers {code}")]
    return [_result(row, code, failed.get(row.sop_instance_uid), stored.get(row.sop_instance_uid)) for row in rows]


def _result(
    row: DeliveryRow, code: int, failed: Mapping[str, Any] | None, stored: Mapping[str, Any] | None
) -> SendResult:
    if failed is not None:
        reason = _code(failed, FAILURE_REASON)
        kind: ResultKind = "later" if reason is not None and 0xA700 <= reason <= 0xA7FF else "refused"
        return SendResult(
            row, kind, f"{code}: " + (describe_status(reason) if reason is not None else "no reason given")
        )
    if stored is None:
        return SendResult(row, "refused", f"{code}, and the answer does not mention it")
    warning = _code(stored, WARNING_REASON)
    return SendResult(row, "sent", describe_status(warning) if warning else "")


def _code(item: Mapping[str, Any], tag: str) -> int | None:
    try:
        return int(json_values(item, tag)[0])
    except (IndexError, ValueError):
        return None


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        dataset = json.loads(body)
    except ValueError:
        return {}
    if isinstance(dataset, list) and dataset:  # some servers wrap it
        dataset = dataset[0]
    return dataset if isinstance(dataset, dict) else {}


def _items(dataset: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = dataset.get(tag)
    items = element.get("Value") if isinstance(element, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


class _Body:
    """A multipart/related body, read from its files while it is sent."""

    def __init__(self, paths: list[Path], boundary: str, stopped: Callable[[], bool]) -> None:
        self.paths = paths
        self.stopped = stopped
        self._part_header = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._closing = f"--{boundary}--\r\n".encode()
        sizes = [path.stat().st_size for path in paths]
        self.length = sum(sizes) + len(paths) * (len(self._part_header) + 2) + len(self._closing)

    def __iter__(self) -> Iterator[bytes]:
        for path in self.paths:
            yield self._part_header
            with path.open("rb") as file:
                yield from self._blocks(file)
            yield b"\r\n"
        yield self._closing

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        while block := file.read(2**18):
            if self.stopped():
                raise UnreachableError("the node stops")
            yield block
