"""Users: add, change, remove; for admins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.errors import ConfigRefusal, NotAllowedNow
from iscl_monai.service.web import accounts
from iscl_monai.service.web.guard import Admin, AdminChanges
from iscl_monai.service.web.sessions import Person
from iscl_monai.service.web.site import page, site_of

router = APIRouter()
Text = Annotated[str, Form(max_length=1024)]


@router.get("/users")
def users(request: Request, person: Admin) -> Response:
    """All of them."""
    return _page(request, person)


def _page(request: Request, person: Person, told: str = "", status: int = 200) -> Response:
    listed = accounts.listed(site_of(request).store)
    return page(
        request,
        "users.html",
        person,
        status=status,
        users=listed,
        roles=accounts.ROLES,
        told=told,
        shortest=accounts.SHORTEST_PASSWORD,
        provider=site_of(request).settings.web.oidc is not None,
    )


def _done(request: Request, person: Person, what: Callable[[], None]) -> Response:
    """Do it, and show the list again; or say why not."""
    try:
        what()
    except (ConfigRefusal, NotAllowedNow) as refusal:
        return _page(request, person, f"{refusal.came}. Allowed: {refusal.allowed}.", 409)
    return RedirectResponse("/users", 303)


@router.post("/users/add")
def add(
    request: Request, person: AdminChanges, name: Text = "", password: Text = "", role: Text = "viewer"
) -> Response:
    """A new user."""
    store = site_of(request).store
    return _done(request, person, lambda: accounts.add_user(store, name, password, role, who=person.name))


@router.post("/users/role")
def role(request: Request, person: AdminChanges, name: Text = "", role: Text = "") -> Response:
    """Another role."""
    store = site_of(request).store
    return _done(request, person, lambda: accounts.set_role(store, name, role, who=person.name))


@router.post("/users/password")
def password(request: Request, person: AdminChanges, name: Text = "", password: Text = "") -> Response:
    """A new password."""
    store = site_of(request).store
    return _done(request, person, lambda: accounts.set_password(store, name, password, who=person.name))


@router.post("/users/remove")
def remove(request: Request, person: AdminChanges, name: Text = "") -> Response:
    """No user any more."""
    store = site_of(request).store
    return _done(request, person, lambda: accounts.remove_user(store, name, who=person.name))
