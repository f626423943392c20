"""Refusals, and the audit log."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Table, select
from starlette.responses import Response

from iscl_monai.service.database.rows import AuditRow, RefusalRow
from iscl_monai.service.database.tables import audit, refusals
from iscl_monai.service.web.guard import Admin, Viewer
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import PAGE_ROWS, page, page_number, site_of

router = APIRouter()


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
