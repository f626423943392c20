"""STOW-RS (PS3.18 10.5): objects come by HTTP. What the response names as stored is on the disk and committed."""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from anyio import CapacityLimiter, WouldBlock, to_thread
from fastapi import APIRouter, HTTPException, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from iscl_monai.service.log import log
from iscl_monai.service.multipart import MalformedError, PartBegin, PartData, PartReader, parse_content_type
from iscl_monai.service.receiving.intake import SOP_CLASSES, Verdict, is_uid
from iscl_monai.service.web.site import Site, site_of

ROOT = "/dicom-web"
DICOM = "application/dicom"
ACCEPTED = ("application/dicom+json", "application/json", "application/*", "*/*")
MOST_PARTS = 10_000
LARGEST_REQUEST = 64 * 2**30
REQUESTS_AT_ONCE = 8
WRITERS = CapacityLimiter(REQUESTS_AT_ONCE)

OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD, OTHER_VERSION, NO_SUCH_CLASS = 0xA700, 0xA900, 0xC000, 0xC001, 0x0122

router = APIRouter(prefix=ROOT)


class StowClient:
    """A dependency of routes: a machine that shows a token we know."""

    def __call__(self, request: Request) -> str:
        """Name of the machine.

        Raises:
            HTTPException: 401.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        known = ""
        for client in site_of(request).settings.web.clients:  # all of them, so that time shows nothing
            if hmac.compare_digest(client.token_sha256, digest):
                known = client.name
        if not known or kind.lower() != "bearer":
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="dicom-web"'})
        return known


_client = StowClient()


class TooMuchError(Exception):
    """The request is larger than we take."""


@router.post("/studies")
@router.post("/studies/{study}")
async def store(request: Request, study: str | None = None) -> Response:
    """Take the objects of a request one by one, and answer what became of each."""
    name = _client(request)
    _check_accept(request)
    if study is not None and not is_uid(study):
        raise HTTPException(400, "the study in the address is no UID")
    try:
        media_type, part_type, boundary = parse_content_type(request.headers.get("content-type", ""))
    except MalformedError as error:
        raise HTTPException(400, str(error)) from error
    if media_type != "multipart/related" or part_type not in ("", DICOM):
        raise HTTPException(415, f'needs multipart/related; type="{DICOM}"')
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > LARGEST_REQUEST:
        raise HTTPException(413, f"more than {LARGEST_REQUEST >> 30} GB in one request")
    try:
        WRITERS.acquire_on_behalf_of_nowait(request)
    except WouldBlock:
        raise HTTPException(503, "too many requests at once", {"Retry-After": "10"}) from None
    try:
        return await _receive(request, Reception(site_of(request), name, study), boundary)
    finally:
        WRITERS.release_on_behalf_of(request)


def _check_accept(request: Request) -> None:
    accepted = [one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "*/*").split(",")]
    if not set(accepted) & set(ACCEPTED):
        raise HTTPException(406, "the answer is application/dicom+json")


async def _receive(request: Request, reception: Reception, boundary: bytes) -> Response:
    reader = PartReader(boundary)
    received, status = 0, 0
    try:
        async for block in request.stream():
            received += len(block)
            if received > LARGEST_REQUEST:
                raise TooMuchError
            await to_thread.run_sync(reception.take, reader, block)
        reader.finish()
    except MalformedError:
        status = 400
    except TooMuchError:
        status = 413
    except ClientDisconnect:
        log.warning("stow.broken_off", client=reception.sender, objects=len(reception.verdicts))
        status = 400
    finally:
        reception.discard_part()
    answer = reception.answer()
    return JSONResponse(answer, status or reception.status(), media_type="application/dicom+json")


class Reception:
    """The objects of one request.

    Args:
        site: of the node.
        sender: the client's name.
        study: Study Instance UID that all objects must bear; None for any.
    """

    def __init__(self, site: Site, sender: str, study: str | None) -> None:
        self.site = site
        self.sender = sender
        self.study = study
        self.verdicts: list[Verdict] = []
        self._part: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._refused: Verdict | None = None

    def take(self, reader: PartReader, block: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            MalformedError: it is no multipart.
            TooMuchError: more parts than we take.
        """
        for event in reader.feed(block):
            if isinstance(event, PartBegin):
                self._begin_part(event.content_type)
            elif isinstance(event, PartData):
                self._write_part(event.data)
            else:
                self._end_part()

    def discard_part(self) -> None:
        """Remove a part that was not completed."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if self._part is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
        self._part, self._file = None, None

    def _begin_part(self, content_type: str) -> None:
        if len(self.verdicts) >= MOST_PARTS:
            raise TooMuchError
        self._size, self._refused = 0, None
        if content_type not in ("", DICOM):
            self._refused = Verdict("unsuitable", f"a part of type {content_type[:60]!r}, needed is {DICOM}")
            return
        no_room = self.site.intake.space.no_room_reason()  # before its bytes make it worse
        if no_room:
            self._refused = Verdict("busy", no_room)
            return
        self._part = self.site.intake.new_part()
        try:
            self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError as error:
            self._refuse_busy(error)

    def _write_part(self, data: bytes) -> None:
        self._size += len(data)
        if self._refused is not None or self._file is None:
            return
        if self._size > self.site.intake.largest_bytes:
            self.discard_part()
            limit = self.site.intake.largest_bytes >> 20
            self._refused = Verdict("unsuitable", f"more than {limit} MB, which is what is allowed")
            return
        try:
            self._file.write(data)
        except OSError as error:
            self._refuse_busy(error)

    def _end_part(self) -> None:
        part, file = self._part, self._file
        if self._refused is None and part is not None and file is not None:
            try:
                file.close()
            except OSError as error:
                self._refuse_busy(error)
            else:
                self._part, self._file = None, None  # the intake removes it
                self.verdicts.append(self.site.intake.accept(part, self.sender, study=self.study))
                return
        verdict = self._refused or Verdict("busy", "the part could not be written")
        self.verdicts.append(verdict)
        self.site.intake.record_refusal(self.sender, verdict)

    def _refuse_busy(self, error: OSError) -> None:
        self.discard_part()
        self._refused = Verdict("busy", f"the node cannot store now: {error.strerror}")

    def status(self) -> int:
        """HTTP status of the response (PS3.18 table 10.5.3-1)."""
        taken = sum(one.taken for one in self.verdicts)
        if not self.verdicts:
            return 400
        if taken:
            return 200 if taken == len(self.verdicts) else 202
        return 507 if all(one.kind == "busy" for one in self.verdicts) else 409

    def answer(self) -> dict[str, Any]:
        """The data set of the response (PS3.18 10.5.3.2), as DICOM JSON; only what was taken is named as stored."""
        failed = [one for one in self.verdicts if not one.taken]
        sequences = {
            "00081198": [_references(one) | _failure(one) for one in failed if one.sop_instance_uid],
            "00081199": [_references(one) for one in self.verdicts if one.taken],
            "0008119A": [_failure(one) for one in failed if not one.sop_instance_uid],  # without UIDs
        }
        dataset: dict[str, Any] = {"00081190": {"vr": "UR"}}
        return dataset | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _references(verdict: Verdict) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [verdict.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [verdict.sop_instance_uid]},
    }


def _failure(verdict: Verdict) -> dict[str, Any]:
    if verdict.kind == "busy":
        code = OUT_OF_RESOURCES
    elif verdict.mismatch:
        code = MISMATCH
    elif verdict.other_version:
        code = OTHER_VERSION
    elif verdict.sop_class_uid and verdict.sop_class_uid not in SOP_CLASSES:
        code = NO_SUCH_CLASS
    else:
        code = NOT_UNDERSTOOD
    return {"00081197": {"vr": "US", "Value": [code]}}


@router.api_route("/{rest:path}", methods=["GET", "DELETE", "PUT"])
def not_offered(request: Request, rest: str) -> Response:
    """Objects can only be stored here."""
    _client(request)
    if rest.partition("/")[0] == "studies" and rest.count("/") < 2:
        return Response("objects can be stored here (POST), not asked for", 405, {"Allow": "POST"})
    raise HTTPException(404, "not here")
