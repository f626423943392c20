"""One series: what came, what was made of it, and where that went."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Request
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.database.rows import JobRow, SeriesRow
from iscl_monai.service.database.states import OPEN_JOBS, SeriesState
from iscl_monai.service.database.tables import jobs, series
from iscl_monai.service.web import details
from iscl_monai.service.web.guard import OperatorChanges, Viewer
from iscl_monai.service.web.overview import Entry, entries_of
from iscl_monai.service.web.pairs import Pairs
from iscl_monai.service.web.pictures import DIFFERENCE_HU, WINDOWS
from iscl_monai.service.web.shadows import compare_jobs
from iscl_monai.service.web.site import Site, page, site_of, wants_fragment
from iscl_monai.service.working import queue

router = APIRouter()
Id = Annotated[int, Path(ge=1, le=2**53)]
WINDOW_OF_BODY_PART = {"brain": ("HEAD", "BRAIN", "SKULL"), "lung": ("CHEST", "LUNG", "THORAX")}


@router.get("/series/{series_id}")
def show(request: Request, person: Viewer, series_id: Id) -> Response:
    """The page of a series."""
    return page(request, "series.html", person, patient=None, **_variables(request, series_id))


@router.get("/series/{series_id}/status")
def status(request: Request, person: Viewer, series_id: Id) -> Response:
    """The fragment of the page that changes."""
    if not wants_fragment(request):
        return RedirectResponse(f"/series/{series_id}", 303)
    variables = _variables(request, series_id)
    response = page(request, "series_status.html", person, **variables)
    if bool(variables["count"]) != (request.query_params.get("pictures") == "1"):
        response.headers["HX-Refresh"] = "true"  # the page has to show more, or less, than this part
    return response


@router.post("/series/{series_id}/patient")
def reveal(request: Request, person: OperatorChanges, series_id: Id) -> Response:
    """Whose series it is, for one response; the audit log names the reader before it is read."""
    site = site_of(request)
    _row(site, series_id)
    with site.store.writing() as change:
        change.note(person.name, "reveal patient", f"series {series_id}")
    patient = details.patient(site, series_id)
    if wants_fragment(request):
        return page(request, "patient.html", person, patient=patient, series_id=series_id)
    return page(request, "series.html", person, patient=patient, **_variables(request, series_id))


@router.post("/series/{series_id}/process")
def process(
    request: Request, person: OperatorChanges, series_id: Id, rule: Annotated[str, Form(max_length=64)] = ""
) -> Response:
    """Process it once more, by a rule that is named or the first that fits."""
    site = site_of(request)
    named = site.settings.rule(rule)
    if rule and (named is None or named.shadow):
        raise HTTPException(404, "there is no such rule")
    _row(site, series_id)
    with site.store.writing() as change:
        queue.process_again(change, series_id, rule or None, person.name)
    return RedirectResponse(f"/series/{series_id}", 303)


def _row(site: Site, series_id: int) -> SeriesRow:
    found = site.store.read(SeriesRow, select(series).where(series.c.id == series_id))
    if not found:
        raise HTTPException(404, "there is no such series")
    return found[0]


def _variables(request: Request, series_id: int) -> dict[str, Any]:
    site = site_of(request)
    row = _row(site, series_id)
    (entry,) = entries_of(site.store, [row])
    all_jobs = site.store.read(JobRow, select(jobs).where(jobs.c.series_id == series_id).order_by(jobs.c.id.desc()))
    job = _chosen_job(request, all_jobs)
    pairs: Pairs = request.app.state.pairs
    count = len(pairs.of_job(job)) if job else 0
    return {
        "entry": entry,
        "row": row,
        "jobs": all_jobs,
        "job": job,
        "result": (job.result if job else None) or {},
        "compared": compare_jobs(all_jobs),
        "destinations": details.destinations(site, job.id) if job else [],
        "equipment": details.equipment(site, job) if job else [],
        "here": details.files_here(site, series_id),
        "senders": details.senders(site, series_id),
        "viewer_url": details.viewer_url(site, row.study_uid),
        "can_process": _can_process(site, entry),
        "rules": [rule.name for rule in site.settings.rules if rule.process and not rule.shadow],
        "count": count,
        "slice": _slice_number(request.query_params.get("slice", ""), count),
        "window": _window(request, str(row.tags.get("BodyPartExamined", ""))),
        "windows": WINDOWS,
        "difference_hu": DIFFERENCE_HU,
        "ended": entry.state not in (SeriesState.RECEIVING, *OPEN_JOBS),
    }


def _chosen_job(request: Request, found: list[JobRow]) -> JobRow | None:
    """The job that is requested, or the newest; one of a shadow rule only if there is no other."""
    requested = request.query_params.get("job", "")
    chosen = [job for job in found if str(job.id) == requested] + [job for job in found if not job.shadow] + found
    return next(iter(chosen), None)


def _can_process(site: Site, entry: Entry) -> bool:
    return entry.series.state is SeriesState.SETTLED and details.files_here(site, entry.series.id) > 0


def _slice_number(text: str, count: int) -> int:
    """A slice number that exists; the middle one when none is requested."""
    if text.isascii() and text.isdigit() and len(text) < 8:
        return max(1, min(int(text), count))
    return max(1, (count + 1) // 2)


def _window(request: Request, body_part: str) -> str:
    """The window that was chosen; else the one that suits the body part."""
    requested = request.query_params.get("window", "")
    if requested in WINDOWS:
        return requested
    suits = (name for name, parts in WINDOW_OF_BODY_PART.items() if any(part in body_part.upper() for part in parts))
    return next(suits, next(iter(WINDOWS)))
