"""Who may do what: every route depends on one of these, and a test checks each route for it."""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.web.sessions import COOKIE, Person
from iscl_monai.service.web.site import site_of, wants_fragment

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


class NotLoggedInError(Exception):
    """Nobody is logged in, or the session has ended."""


class RequiresRole:
    """A dependency of routes: a person with the role, or a higher one, is logged in.

    Args:
        role: the least that is enough.
    """

    def __init__(self, role: str) -> None:
        self.role = role

    def __call__(self, request: Request) -> Person:
        """The person who is logged in.

        Raises:
            NotLoggedInError: nobody is.
            HTTPException: 403, the role is not enough.
        """
        person = site_of(request).sessions.person(request.cookies.get(COOKIE, ""))
        if person is None:
            raise NotLoggedInError
        if not person.may(self.role):
            raise HTTPException(403, f"this needs the role {self.role}; {person.name} is {person.role}")
        return person


class RequiresRoleAndForm(RequiresRole):
    """The same for requests that change something: they must also come from a form of our own pages (CSRF)."""

    async def __call__(self, request: Request) -> Person:  # type: ignore[override]
        """The person who is logged in.

        Raises:
            NotLoggedInError: nobody is.
            HTTPException: 403, the role is not enough, or the request does not come from our own pages.
        """
        person = await run_in_threadpool(super().__call__, request)
        check_origin(request)
        token = request.headers.get(CSRF_HEADER) or (await request.form()).get(CSRF_FIELD)
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), person.csrf.encode()):
            raise HTTPException(403, "the form is too old, or not ours: open the page again")
        return person


def check_origin(request: Request) -> None:
    """Refuse a request that a browser was made to send by a page of another site.

    Raises:
        HTTPException: 403.
    """
    origin = request.headers.get("origin")
    hosts = [request.headers.get("host", "")]
    if site_of(request).settings.web.behind_proxy:  # which may forward to us under another name
        hosts.append(",".join(request.headers.getlist("x-forwarded-host")).rsplit(",", 1)[-1].strip())
    foreign = origin is not None and (not urlsplit(origin).netloc or urlsplit(origin).netloc not in hosts)
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "sent by a page of another site")


def redirect_to_login(request: Request) -> Response:
    """Answer a request without a session: pages lead to the login, everything else is 401."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = "/login" if target == "/" else f"/login?next={quote(target)}"
    if wants_fragment(request):  # a page whose session has ended while it was polling
        return Response("log in again", 401, {"HX-Redirect": "/login"})
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(login, 303)
    return Response("not logged in", 401)


def safe_path(path: str | None) -> str:
    """A path of ours to redirect to; the first page if it could lead to another site."""
    path = path or "/"
    odd = any(ord(letter) < 33 or letter == "\\" for letter in path)
    return "/" if odd or not path.startswith("/") or path.startswith("//") else path


viewer, operator, admin = RequiresRole("viewer"), RequiresRole("operator"), RequiresRole("admin")
Viewer = Annotated[Person, Depends(viewer)]
Operator = Annotated[Person, Depends(operator)]
Admin = Annotated[Person, Depends(admin)]
ViewerChanges = Annotated[Person, Depends(RequiresRoleAndForm("viewer"))]
OperatorChanges = Annotated[Person, Depends(RequiresRoleAndForm("operator"))]
AdminChanges = Annotated[Person, Depends(RequiresRoleAndForm("admin"))]
