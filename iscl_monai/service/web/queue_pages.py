"""The queue, live; and what a person may do about a job."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.web.guard import OperatorChanges, Viewer, within
from iscl_monai.service.web.overview import SHOWN, entries, tallies
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import is_part, page, page_number, site_of
from iscl_monai.service.working import queue

router = APIRouter()
Id = Annotated[int, Path(ge=1, le=2**53)]
Back = Annotated[str, Form(max_length=1024)]


@router.get("/")
def first(request: Request, person: Viewer) -> Response:
    """The queue."""
    return page(request, "queue.html", person, **_told(request, person))


@router.get("/queue")
def part(request: Request, person: Viewer) -> Response:
    """The part of it that changes; nothing when the browser shows the same already."""
    told = _told(request, person)
    if request.query_params.get("seen") == told["seen"]:
        return Response(status_code=204)
    if not is_part(request):
        return RedirectResponse("/", 303)
    return page(request, "queue_part.html", person, **told)


def _told(request: Request, person: Person) -> dict[str, Any]:
    site = site_of(request)
    show = request.query_params.get("show", "all")
    show = show if show in SHOWN else "all"
    number = page_number(request)
    found, more = entries(site.store, show, number)
    ailing = [(name, text) for name, (well, text) in site.health().items() if not well]
    told: dict[str, Any] = {
        "entries": found,
        "tallies": tallies(site.store),
        "ailing": ailing,
        "show": show,
        "choices": [(key, words) for key, (words, _) in SHOWN.items()],
        "number": number,
        "more": more,
    }
    rendered = page(request, "queue_part.html", person, seen="", **told).body
    told["seen"] = hashlib.sha256(bytes(rendered)).hexdigest()[:16]
    return told


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, person: OperatorChanges, job_id: Id, back: Back = "/") -> Response:
    """Ask for a job again."""
    with site_of(request).store.writing() as change:
        queue.retry(change, job_id, person.name)
    return RedirectResponse(within(back), 303)


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, person: OperatorChanges, job_id: Id, back: Back = "/") -> Response:
    """Have a job not go on."""
    with site_of(request).store.writing() as change:
        queue.cancel(change, job_id, person.name)
    return RedirectResponse(within(back), 303)
