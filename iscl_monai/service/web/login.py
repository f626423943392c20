"""Log in and out by password, and change one's own."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from iscl_monai.errors import Refusal, StoreUnavailable
from iscl_monai.service.log import log
from iscl_monai.service.web import accounts
from iscl_monai.service.web.devices import Devices
from iscl_monai.service.web.guard import Viewer, ViewerChanges, check_origin, safe_path
from iscl_monai.service.web.sessions import COOKIE
from iscl_monai.service.web.site import Site, client_address, page, site_of

WRONG = "Name or password is wrong."
AT_ONCE = CapacityLimiter(2)  # argon2 takes 64 MB each; and a flood of logins shall not hold up the pages

router = APIRouter()
Text = Annotated[str, Form(max_length=1024)]


@router.get("/login")
def form(request: Request) -> Response:
    """Show the login form."""
    return _form(request)


def _form(request: Request, message: str = "", status: int = 200) -> Response:
    oidc = site_of(request).settings.web.oidc is not None
    following = safe_path(request.query_params.get("next"))
    return page(request, "login.html", None, status=status, message=message, following=following, oidc=oidc)


@router.post("/login")
async def log_in(request: Request, name: Text = "", password: Text = "", following: Text = "/") -> Response:
    """Begin a session, or answer that name or password is wrong, but not which."""
    check_origin(request)
    site, address = site_of(request), client_address(request)
    devices: Devices = request.app.state.devices
    device = devices.of(request, name)
    wait_s = site.throttle.wait_s(name, address, device)
    if wait_s > 0:
        response = _form(request, f"Too many tries. The next one counts in {wait_s:.0f} seconds.", 429)
        response.headers["Retry-After"] = f"{wait_s:.0f}"
        return response
    site.throttle.record_attempt(name, address, device)
    user = await to_thread.run_sync(accounts.verify, site.store, name, password, limiter=AT_ONCE)
    if user is None:
        await to_thread.run_sync(_note_failure, request, name, limiter=AT_ONCE)
        return _form(request, WRONG, 401)
    site.throttle.record_success(name, address, device)
    await to_thread.run_sync(_note, request, user.name, "log in", address)
    response = RedirectResponse(safe_path(following), 303)
    set_session_cookie(request, response, site.sessions.begin(user.name, user.role, user.sessions_since))
    devices.remember(request, response, user.name)
    return response


def _note_failure(request: Request, name: str) -> None:
    """Note a failed log-in with the name of a user who exists: some type their password there."""
    site, address = site_of(request), client_address(request)
    log.warning("login.failed", address=address)
    known = accounts.find(site.store, name)
    note_failed_login(site, known.name if known else "unknown user", address)


def note_failed_login(site: Site, name: str, address: str) -> None:
    """Write a failed log-in into the audit log; many of the same become one line with their number.

    Args:
        site: ours.
        name: of the user, if it is one.
        address: of the client.
    """
    earlier = site.failed_logins.unrecorded((name, address), group=address)
    if earlier is None:
        return
    more = f"; {earlier} times more since it was last noted" if earlier else ""
    with suppress(StoreUnavailable), site.store.writing() as change:  # the log has it, too
        change.note("unknown", "log in failed", name, f"from {address}{more}")


def set_session_cookie(request: Request, response: Response, session: str) -> None:
    """Set the cookie of a session. Strict: not even links from other sites come with it."""
    site = site_of(request)
    response.set_cookie(
        COOKIE, session, max_age=site.sessions.seconds, httponly=True, secure=site.secure, samesite="strict"
    )


@router.post("/logout")
def log_out(request: Request, person: ViewerChanges) -> Response:
    """End the session."""
    site_of(request).sessions.end(person)
    _note(request, person.name, "log out", client_address(request))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, httponly=True, secure=site_of(request).secure, samesite="strict")
    return response


def _note(request: Request, name: str, action: str, address: str) -> None:
    with site_of(request).store.writing() as change:
        change.note(name, action, name, f"from {address}")


@router.get("/account")
def account(request: Request, person: Viewer) -> Response:
    """Show the form for one's own password."""
    return page(request, "account.html", person, message="", local=accounts.find(site_of(request).store, person.name))


@router.post("/account")
async def own_password(request: Request, person: ViewerChanges, old: Text = "", new: Text = "") -> Response:
    """Change one's own password; the session goes on under the new one, all others end."""
    site, address = site_of(request), client_address(request)
    message, user = "", None
    session = person.session  # tries count for it alone: who keeps the account busy from elsewhere holds up nobody here
    if site.throttle.wait_s(person.name, address, session) > 0:
        message = "Too many tries. Wait a while."
    else:
        site.throttle.record_attempt(person.name, address, session)
        user = await to_thread.run_sync(accounts.verify, site.store, person.name, old, limiter=AT_ONCE)
        message = "" if user else "The old password is wrong."
    if user is not None:
        site.throttle.record_success(person.name, address, session)
        try:
            await to_thread.run_sync(_set_own_password, request, user.name, new, limiter=AT_ONCE)
        except Refusal as refusal:
            message = f"{refusal.came}; allowed: {refusal.allowed}"
    if message:
        local = accounts.find(site.store, person.name)
        return page(request, "account.html", person, status=409, message=message, local=local)
    changed = accounts.find(site.store, person.name)
    response = RedirectResponse("/", 303)
    if changed is not None:
        set_session_cookie(request, response, site.sessions.begin(changed.name, changed.role, changed.sessions_since))
    return response


def _set_own_password(request: Request, name: str, new: str) -> None:
    accounts.set_password(site_of(request).store, name, new, actor=name)
