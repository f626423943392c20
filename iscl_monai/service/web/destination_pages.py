"""The page of destinations, live; and what a person may do about one: ask it now, pause it, resume it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.sending import pausing
from iscl_monai.service.web.destinations import peer_statuses
from iscl_monai.service.web.guard import OperatorChanges, Viewer
from iscl_monai.service.web.site import Site, page, site_of, wants_fragment

router = APIRouter()
Name = Annotated[str, Form(max_length=64)]
ADDRESS = "/destinations"


@router.get(ADDRESS)
def destinations(request: Request, person: Viewer) -> Response:
    """Every peer, and how it is with it."""
    template = "destinations_part.html" if wants_fragment(request) else "destinations.html"
    return page(request, template, person, **_variables(site_of(request)))


def _variables(site: Site) -> dict[str, Any]:
    return {
        "peers": peer_statuses(site.settings, site.store, site.controls.echoes),
        "every_s": site.settings.echo_every_s,
    }


@router.post(f"{ADDRESS}/check")
def check(request: Request, person: OperatorChanges, name: Name = "") -> Response:
    """Ask a peer now."""
    echo = site_of(request).controls.echoes.get(name)
    if echo is None:
        raise HTTPException(404, "there is no such peer that can be asked")
    echo.check_now()
    return RedirectResponse(ADDRESS, 303)


@router.post(f"{ADDRESS}/pause")
def pause(request: Request, person: OperatorChanges, name: Name = "") -> Response:
    """Pause a destination: what waits for it goes on waiting."""
    site = site_of(request)
    _check_destination(site, name)
    with site.store.writing() as change:
        pausing.pause(change, name, person.name)
    site.controls.destination_changed(name)
    return RedirectResponse(ADDRESS, 303)


@router.post(f"{ADDRESS}/resume")
def resume(request: Request, person: OperatorChanges, name: Name = "") -> Response:
    """Resume a destination."""
    site = site_of(request)
    with site.store.writing() as change:
        pausing.resume(change, name, person.name)
    site.controls.destination_changed(name)
    return RedirectResponse(ADDRESS, 303)


def _check_destination(site: Site, name: str) -> None:
    peer = site.settings.peer(name)
    if peer is None or not peer.can_receive:
        raise HTTPException(404, "there is no such destination")
