"""The page of rules: all of them in words, which one fits a series, what shadow rules show, and reading them anew."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.database.rows import SeriesRow
from iscl_monai.service.database.tables import series
from iscl_monai.service.reload import Preview, SettingsReload
from iscl_monai.service.web.guard import AdminChanges, Viewer
from iscl_monai.service.web.rule_text import explain_rules
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.shadows import summary_of
from iscl_monai.service.web.site import Site, page, site_of

router = APIRouter()


@router.get("/rules")
def rules(request: Request, person: Viewer) -> Response:
    """All rules in words; with ``?series=7`` also which of them fits that one."""
    return _page(request, person)


@router.post("/rules/check")
def check(request: Request, person: AdminChanges) -> Response:
    """Read the file, and show what would change, or why it is refused."""
    try:
        return _page(request, person, preview=_reload(request).preview())
    except ConfigRefusal as refusal:
        return _page(request, person, refusal=str(refusal), status=409)


@router.post("/rules/reload")
def reload(request: Request, person: AdminChanges, digest: Annotated[str, Form(max_length=64)] = "") -> Response:
    """Use the rules that were shown."""
    try:
        _reload(request).reload(person.name, digest)
    except ConfigRefusal as refusal:
        return _page(request, person, refusal=str(refusal), status=409)
    return RedirectResponse("/rules", 303)


def _reload(request: Request) -> SettingsReload:
    found = site_of(request).controls.reload
    if found is None:
        raise HTTPException(404, "the node does not know its settings file")
    return found


def _page(
    request: Request, person: Person, *, preview: Preview | None = None, refusal: str = "", status: int = 200
) -> Response:
    site = site_of(request)
    number = request.query_params.get("series", "").strip()
    tested = _series(site, number)
    shadows = [rule.name for rule in site.settings.rules if rule.shadow]
    return page(
        request,
        "rules.html",
        person,
        status=status,
        rules=explain_rules(site.settings, tested.tags if tested else None),
        tested=tested,
        asked=number[:20],
        summaries={name: summary_of(site.store, name) for name in shadows},
        can_reload=site.controls.reload is not None and person.may("admin"),
        preview=preview,
        refusal=refusal,
    )


def _series(site: Site, number: str) -> SeriesRow | None:
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        return None
    found = site.store.read(SeriesRow, select(series).where(series.c.id == int(number)))
    return found[0] if found else None
