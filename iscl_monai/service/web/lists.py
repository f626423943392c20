"""Rules, refusals, and the audit log."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Table, select
from starlette.responses import Response

from iscl_monai.service.database.rows import AuditRow, RefusalRow, SeriesRow
from iscl_monai.service.database.tables import audit, refusals, series
from iscl_monai.service.web.guard import Admin, Viewer
from iscl_monai.service.web.rule_text import explain_rules
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import PAGE_ROWS, Site, page, page_number, site_of

router = APIRouter()


@router.get("/rules")
def rules(request: Request, person: Viewer) -> Response:
    """All rules in words; with ``?series=7`` also which of them fits that one."""
    site = site_of(request)
    number = request.query_params.get("series", "").strip()
    tested = _series(site, number)
    return page(
        request,
        "rules.html",
        person,
        rules=explain_rules(site.settings, tested.tags if tested else None),
        tested=tested,
        asked=number[:20],
    )


def _series(site: Site, number: str) -> SeriesRow | None:
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        return None
    found = site.store.read(SeriesRow, select(series).where(series.c.id == int(number)))
    return found[0] if found else None


@router.get("/refusals")
def list_refusals(request: Request, person: Viewer) -> Response:
    """What was not taken, the newest first."""
    unlisted = site_of(request).intake.refusals.unlisted
    return _list_page(request, person, RefusalRow, refusals, "refusals.html", unlisted=unlisted)


@router.get("/audit")
def list_audit(request: Request, person: Admin) -> Response:
    """Who did what, the newest first."""
    return _list_page(request, person, AuditRow, audit, "audit.html")


def _list_page(
    request: Request, person: Person, kind: type[Any], table: Table, template: str, **variables: Any
) -> Response:
    number = page_number(request)
    statement = select(table).order_by(table.c.id.desc()).offset((number - 1) * PAGE_ROWS).limit(PAGE_ROWS + 1)
    rows = site_of(request).store.read(kind, statement)
    return page(
        request, template, person, rows=rows[:PAGE_ROWS], number=number, more=len(rows) > PAGE_ROWS, **variables
    )
