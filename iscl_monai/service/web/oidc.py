"""Log in by the hospital's identity provider (OpenID Connect): the redirect to it, and the callback."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anyio import CapacityLimiter, WouldBlock, to_thread
from fastapi import APIRouter, FastAPI, HTTPException, Request
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.log import log
from iscl_monai.service.web.guard import safe_path
from iscl_monai.service.web.login import note_failed_login, set_session_cookie
from iscl_monai.service.web.provider import IdentityNotProvenError, Provider
from iscl_monai.service.web.sessions import FROM_PROVIDER
from iscl_monai.service.web.site import client_address, page, site_of

COOKIE = "iscl_oidc"
CALLBACK_PATH = "/oidc/back"
LOGIN_WITHIN_S = 600
AT_ONCE = 8  # who ask the provider: anybody may, and while it is silent each of them holds a thread
PLACES, THREADS = CapacityLimiter(AT_ONCE), CapacityLimiter(AT_ONCE)

router = APIRouter()


@dataclass(frozen=True)
class OidcLogin:
    """What the routes need.

    Args:
        provider: the identity provider.
        signer: of the cookie that holds the login state meanwhile.
    """

    provider: Provider
    signer: URLSafeTimedSerializer


def add_routes(app: FastAPI, provider: Provider, key: bytes) -> None:
    """Let people log in by an identity provider.

    Args:
        app: ours.
        provider: the identity provider.
        key: of the node.
    """
    app.state.oidc = OidcLogin(provider, URLSafeTimedSerializer(key, salt="oidc"))
    app.include_router(router)


@router.get("/oidc")
async def redirect_to_provider(request: Request) -> Response:
    """Send the browser to the provider."""
    return await _ask(_redirect_to_provider, request)


async def _ask(answer: Callable[[Request], Response], request: Request) -> Response:
    """Answer by a function that asks the provider, in a thread that pages and probes do not need.

    Raises:
        HTTPException: 503, too many are asking it.
    """
    try:
        PLACES.acquire_on_behalf_of_nowait(request)
    except WouldBlock:
        wait = {"Retry-After": "10"}
        raise HTTPException(503, "the identity provider is being asked by many: try again", wait) from None
    try:
        return await to_thread.run_sync(answer, request, limiter=THREADS)
    finally:
        PLACES.release_on_behalf_of(request)


def _redirect_to_provider(request: Request) -> Response:
    oidc: OidcLogin = request.app.state.oidc
    try:
        url, login_state = oidc.provider.authorization_url(_redirect_uri(request))
    except IdentityNotProvenError as error:
        log.warning("oidc.unreachable", error=str(error))
        raise HTTPException(502, "the identity provider cannot be asked now") from error
    login_state["next"] = safe_path(request.query_params.get("next"))
    response = RedirectResponse(url, 303)
    # Lax, for the provider's page is what sends the browser back.
    response.set_cookie(
        COOKIE,
        str(oidc.signer.dumps(login_state)),
        max_age=LOGIN_WITHIN_S,
        path="/oidc",
        httponly=True,
        secure=site_of(request).secure,
        samesite="lax",
    )
    return response


@router.get(CALLBACK_PATH)
async def handle_callback(request: Request) -> Response:
    """The browser comes back from the provider, with a code."""
    return await _ask(_handle_callback, request)


def _handle_callback(request: Request) -> Response:
    oidc: OidcLogin = request.app.state.oidc
    login_state = _login_state(oidc.signer, request)
    try:
        name, role = oidc.provider.identify(request.query_params.get("code", ""), _redirect_uri(request), login_state)
    except IdentityNotProvenError as error:
        log.warning("oidc.failed", error=str(error))
        note_failed_login(site_of(request), "by the identity provider", client_address(request))
        raise HTTPException(401, "the identity provider did not vouch for you") from error
    if role is None or not name:
        note_failed_login(site_of(request), f"{FROM_PROVIDER}{name}"[:64], client_address(request))
        raise HTTPException(403, "none of your groups has a role here: ask an administrator")
    return _begin_session(request, f"{FROM_PROVIDER}{name}"[:64], role, login_state["next"])


def _begin_session(request: Request, name: str, role: str, following: str) -> Response:
    """A page that goes on by itself: after a redirect from another site, browsers would not send our Strict cookie."""
    site = site_of(request)
    with site.store.writing() as change:
        change.note(name, "log in", name, f"as {role}, from {client_address(request)}")
    response = page(request, "welcome.html", None, following=safe_path(following))
    set_session_cookie(request, response, site.sessions.begin(name, role))
    response.delete_cookie(COOKIE, path="/oidc", httponly=True, secure=site.secure, samesite="lax")
    return response


def _login_state(signer: URLSafeTimedSerializer, request: Request) -> Mapping[str, str]:
    try:
        login_state: Mapping[str, str] = signer.loads(request.cookies.get(COOKIE, ""), max_age=LOGIN_WITHIN_S)
    except BadData:
        raise HTTPException(400, "this login was not begun here, or too long ago: begin again") from None
    if not hmac.compare_digest(request.query_params.get("state", "").encode(), login_state["state"].encode()):
        raise HTTPException(400, "this login was not begun here: begin again")
    return login_state


def _redirect_uri(request: Request) -> str:
    scheme = "https" if site_of(request).secure else "http"
    host = request.headers.get("host", "")
    if site_of(request).settings.web.behind_proxy:
        host = (",".join(request.headers.getlist("x-forwarded-host")) or host).rsplit(",", 1)[-1].strip()
    return f"{scheme}://{host}{CALLBACK_PATH}"
