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
from iscl_monai.service.web.site import confirm, page, site_of

router = APIRouter()
Text = Annotated[str, Form(max_length=1024)]


@router.get("/users")
def users(request: Request, person: Admin) -> Response:
    """Show all users."""
    return _page(request, person)


def _page(request: Request, person: Person, message: str = "", status: int = 200) -> Response:
    listed = accounts.all_users(site_of(request).store)
    return page(
        request,
        "users.html",
        person,
        status=status,
        users=listed,
        roles=accounts.ROLES,
        message=message,
        shortest=accounts.SHORTEST_PASSWORD,
        provider=site_of(request).settings.web.oidc is not None,
    )


def _apply(request: Request, person: Person, change: Callable[[], None]) -> Response:
    """Apply a change, and show the list again; or why it is refused."""
    try:
        change()
    except (ConfigRefusal, NotAllowedNow) as refusal:
        return _page(request, person, f"{refusal.came}. Allowed: {refusal.allowed}.", 409)
    return RedirectResponse("/users", 303)


@router.post("/users/add")
def add(
    request: Request, person: AdminChanges, name: Text = "", password: Text = "", role: Text = "viewer"
) -> Response:
    """Add a user."""
    store = site_of(request).store
    return _apply(request, person, lambda: accounts.add_user(store, name, password, role, actor=person.name))


@router.post("/users/role")
def role(request: Request, person: AdminChanges, name: Text = "", role: Text = "") -> Response:
    """Change the role of a user."""
    store = site_of(request).store
    return _apply(request, person, lambda: accounts.set_role(store, name, role, actor=person.name))


@router.post("/users/password")
def password(request: Request, person: AdminChanges, name: Text = "", password: Text = "") -> Response:
    """Set the password of a user."""
    store = site_of(request).store
    return _apply(request, person, lambda: accounts.set_password(store, name, password, actor=person.name))


@router.post("/users/remove")
def remove(request: Request, person: AdminChanges, name: Text = "", sure: Text = "") -> Response:
    """Remove a user, after asking whether that is meant."""
    if sure != "yes":
        consequence = "All sessions of that user end, and nobody can log in by that name."
        fields = {"name": name}
        return confirm(
            request, person, f"Remove {name}?", consequence, "Yes, remove the user", fields=fields, back="/users"
        )
    store = site_of(request).store
    return _apply(request, person, lambda: accounts.remove_user(store, name, actor=person.name))
