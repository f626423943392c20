"""Who may do what: every route depends on one of these, and a test asks each route for it."""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.web.sessions import COOKIE, Person
from iscl_monai.service.web.site import is_part, site_of

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


class NotLoggedInError(Exception):
    """Nobody, or nobody any more."""


class Needs:
    """A dependency: somebody is logged in who has the role.

    Args:
        role: the least that is enough.
    """

    def __init__(self, role: str) -> None:
        self.role = role

    def __call__(self, request: Request) -> Person:
        """Who it is.

        Raises:
            NotLoggedInError: nobody.
            HTTPException: 403, the role is not enough.
        """
        person = site_of(request).sessions.person(request.cookies.get(COOKIE, ""))
        if person is None:
            raise NotLoggedInError
        if not person.may(self.role):
            raise HTTPException(403, f"this needs the role {self.role}; {person.name} is {person.role}")
        return person


class Changes(Needs):
    """The same for what changes something: the request must also come from our own pages."""

    async def __call__(self, request: Request) -> Person:  # type: ignore[override]
        """Who it is.

        Raises:
            NotLoggedInError: nobody.
            HTTPException: 403, the role is not enough, or the request does not come from our own pages.
        """
        person = await run_in_threadpool(super().__call__, request)
        check_origin(request)
        told = request.headers.get(CSRF_HEADER) or (await request.form()).get(CSRF_FIELD)
        if not isinstance(told, str) or not hmac.compare_digest(told.encode(), person.csrf.encode()):
            raise HTTPException(403, "the form is too old, or not ours: open the page again")
        return person


def check_origin(request: Request) -> None:
    """Refuse what a browser was made to send by a page of somebody else.

    Raises:
        HTTPException: 403.
    """
    origin = request.headers.get("origin")
    hosts = [request.headers.get("host", "")]
    if site_of(request).settings.web.behind_proxy:  # which may call us by another name
        hosts.append(",".join(request.headers.getlist("x-forwarded-host")).rsplit(",", 1)[-1].strip())
    foreign = origin is not None and (not urlsplit(origin).netloc or urlsplit(origin).netloc not in hosts)
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "sent by a page of another site")


def to_login(request: Request) -> Response:
    """What nobody gets: pages lead to the login, everything else is 401."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = "/login" if wanted == "/" else f"/login?next={quote(wanted)}"
    if is_part(request):  # a page whose session has ended while it asked for news
        return Response("log in again", 401, {"HX-Redirect": "/login"})
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(login, 303)
    return Response("not logged in", 401)


def within(path: str | None) -> str:
    """A path of ours to go on to; the first page when it may lead anywhere else."""
    told = path or "/"
    odd = any(ord(letter) < 33 or letter == "\\" for letter in told)
    return "/" if odd or not told.startswith("/") or told.startswith("//") else told


viewer, operator, admin = Needs("viewer"), Needs("operator"), Needs("admin")
Viewer = Annotated[Person, Depends(viewer)]
Operator = Annotated[Person, Depends(operator)]
Admin = Annotated[Person, Depends(admin)]
ViewerChanges = Annotated[Person, Depends(Changes("viewer"))]
OperatorChanges = Annotated[Person, Depends(Changes("operator"))]
AdminChanges = Annotated[Person, Depends(Changes("admin"))]
