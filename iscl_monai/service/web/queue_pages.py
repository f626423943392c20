"""The queue, live; and what a person may do about a job."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.web.guard import AdminChanges, OperatorChanges, Viewer, ViewerChanges, safe_path
from iscl_monai.service.web.overview import FILTERS, counts_by_state, entries
from iscl_monai.service.web.search import Search
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import confirm, page, page_number, site_of, wants_fragment
from iscl_monai.service.working import queue

router = APIRouter()
ALWAYS_SHOWN = ("worker", "disk")  # parts, also when they are well
Id = Annotated[int, Path(ge=1, le=2**53)]
Back = Annotated[str, Form(max_length=1024)]
Sure = Annotated[str, Form(max_length=8)]
Field = Annotated[str, Form(max_length=256)]


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


@router.post("/search")
def search(
    request: Request, person: ViewerChanges, text: Field = "", since: Field = "", until: Field = "", number: Field = ""
) -> Response:
    """Search the queue. Who searches by a number learns whose series these are: an operator, and it is written down."""
    site = site_of(request)
    digest = site.search_keys.of(number)
    if digest and not person.may("operator"):
        raise HTTPException(
            403, f"a search by a patient's number needs the role operator; {person.name} is {person.role}"
        )
    wanted = Search.of({"text": text, "since": since, "until": until, "number": digest})
    if digest:
        found, _ = entries(site.store, "all", 1, wanted)
        with site.store.writing() as change:
            change.note(
                person.name, "search by number", f"{len(found)} series", " ".join(str(e.series.id) for e in found)
            )
    return RedirectResponse(f"/?{wanted.query}".rstrip("?&"), 303)


def _variables(request: Request, person: Person) -> dict[str, Any]:
    site = site_of(request)
    show = request.query_params.get("show", "all")
    show = show if show in FILTERS else "all"
    number = page_number(request)
    search = Search.of(request.query_params)
    found, more = entries(site.store, show, number, search)
    health = site.health()
    failing_parts = [(name, text) for name, (well, text) in health.items() if not well]
    variables: dict[str, Any] = {
        "entries": found,
        "counts": counts_by_state(site.store),
        "failing_parts": failing_parts,
        "always_shown": [(name, *health[name]) for name in ALWAYS_SHOWN if name in health],
        "search": search,
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
def cancel(request: Request, person: OperatorChanges, job_id: Id, back: Back = "/", sure: Sure = "") -> Response:
    """Cancel a job, after asking whether that is meant."""
    if sure != "yes":
        return confirm(
            request,
            person,
            f"Cancel job {job_id}?",
            "Nothing more of it is made or sent; what was delivered stays. It can be retried while its files are here.",
            "Yes, cancel it",
            fields={"back": safe_path(back)},
            back=safe_path(back),
        )
    with site_of(request).store.writing() as change:
        queue.cancel(change, job_id, person.name)
    return RedirectResponse(safe_path(back), 303)
