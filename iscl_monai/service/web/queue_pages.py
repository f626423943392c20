"""The queue, live; and what a person may do about a job."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.web.guard import AdminChanges, OperatorChanges, Viewer, safe_path
from iscl_monai.service.web.overview import FILTERS, counts_by_state, entries
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import page, page_number, site_of, wants_fragment
from iscl_monai.service.working import queue

router = APIRouter()
Id = Annotated[int, Path(ge=1, le=2**53)]
Back = Annotated[str, Form(max_length=1024)]


@router.get("/")
def show_queue(request: Request, person: Viewer) -> Response:
    """Show the queue."""
    return page(request, "queue.html", person, **_variables(request, person))


@router.get("/queue")
def queue_fragment(request: Request, person: Viewer) -> Response:
    """The fragment of the page that changes; 204 when the browser shows the same already."""
    variables = _variables(request, person)
    if request.query_params.get("seen") == variables["seen"]:
        return Response(status_code=204)
    if not wants_fragment(request):
        return RedirectResponse("/", 303)
    return page(request, "queue_part.html", person, **variables)


def _variables(request: Request, person: Person) -> dict[str, Any]:
    site = site_of(request)
    show = request.query_params.get("show", "all")
    show = show if show in FILTERS else "all"
    number = page_number(request)
    found, more = entries(site.store, show, number)
    failing_parts = [(name, text) for name, (well, text) in site.health().items() if not well]
    variables: dict[str, Any] = {
        "entries": found,
        "counts": counts_by_state(site.store),
        "failing_parts": failing_parts,
        "show": show,
        "choices": [(key, words) for key, (words, _) in FILTERS.items()],
        "number": number,
        "more": more,
    }
    rendered = page(request, "queue_part.html", person, seen="", **variables).body
    variables["seen"] = hashlib.sha256(bytes(rendered)).hexdigest()[:16]
    return variables


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, person: OperatorChanges, job_id: Id, back: Back = "/") -> Response:
    """Try a job again."""
    with site_of(request).store.writing() as change:
        queue.retry(change, job_id, person.name)
    return RedirectResponse(safe_path(back), 303)


@router.post("/jobs/{job_id}/release")
def release(request: Request, person: AdminChanges, job_id: Id, back: Back = "/") -> Response:
    """Send what was held back."""
    with site_of(request).store.writing() as change:
        queue.release(change, job_id, person.name)
    return RedirectResponse(safe_path(back), 303)


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, person: OperatorChanges, job_id: Id, back: Back = "/") -> Response:
    """Cancel a job."""
    with site_of(request).store.writing() as change:
        queue.cancel(change, job_id, person.name)
    return RedirectResponse(safe_path(back), 303)
