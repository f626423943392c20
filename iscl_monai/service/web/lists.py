"""Rules, refusals, and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Table, select
from starlette.responses import Response

from iscl_monai.service.database.tables import audit, refusals, series
from iscl_monai.service.web.guard import Admin, Viewer
from iscl_monai.service.web.site import PAGE_ROWS, Site, page, page_number, site_of
from iscl_monai.service.web.words import explained

router = APIRouter()


@router.get("/rules")
def rules(request: Request, person: Viewer) -> Response:
    """All rules in words; with ``?series=7`` also which of them fits that one."""
    site = site_of(request)
    told = request.query_params.get("series", "").strip()
    tested = _series(site, told)
    return page(
        request,
        "rules.html",
        person,
        rules=explained(site.settings, tested["tags"] if tested else None),
        tested=tested,
        asked=told[:20],
    )


def _series(site: Site, told: str) -> Mapping[str, Any] | None:
    if not (told.isascii() and told.isdigit() and len(told) < 16):
        return None
    found = site.store.rows(select(series).where(series.c.id == int(told)))
    return found[0] if found else None


@router.get("/refusals")
def refused(request: Request, person: Viewer) -> Response:
    """What was not taken, the newest first."""
    return _listed(request, person, refusals, "refusals.html")


@router.get("/audit")
def audited(request: Request, person: Admin) -> Response:
    """Who did what, the newest first."""
    return _listed(request, person, audit, "audit.html")


def _listed(request: Request, person: Any, table: Table, template: str) -> Response:
    number = page_number(request)
    wanted = select(table).order_by(table.c.id.desc()).offset((number - 1) * PAGE_ROWS).limit(PAGE_ROWS + 1)
    rows = site_of(request).store.rows(wanted)
    return page(request, template, person, rows=rows[:PAGE_ROWS], number=number, more=len(rows) > PAGE_ROWS)
