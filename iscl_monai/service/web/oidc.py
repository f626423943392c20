"""Log in by the hospital's identity provider: there, and back again."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI, HTTPException, Request
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.responses import RedirectResponse, Response

from iscl_monai.service.log import log
from iscl_monai.service.web.guard import within
from iscl_monai.service.web.login import keep
from iscl_monai.service.web.provider import NotVouchedError, Provider
from iscl_monai.service.web.sessions import FROM_PROVIDER
from iscl_monai.service.web.site import caller, page, site_of

COOKIE = "iscl_oidc"
BACK = "/oidc/back"
WITHIN_S = 600

router = APIRouter()


@dataclass(frozen=True)
class Way:
    """What the routes need.

    Args:
        provider: who vouches.
        signer: of what a browser keeps meanwhile.
    """

    provider: Provider
    signer: URLSafeTimedSerializer


def add_routes(app: FastAPI, provider: Provider, key: bytes) -> None:
    """Let people log in by a provider.

    Args:
        app: ours.
        provider: who vouches.
        key: of the node.
    """
    app.state.oidc = Way(provider, URLSafeTimedSerializer(key, salt="oidc"))
    app.include_router(router)


@router.get("/oidc")
def leave(request: Request) -> Response:
    """Send the browser there."""
    way: Way = request.app.state.oidc
    try:
        address, kept = way.provider.way_there(_back(request))
    except NotVouchedError as error:
        log.warning("oidc.unreachable", error=str(error))
        raise HTTPException(502, "the identity provider cannot be asked now") from error
    kept["next"] = within(request.query_params.get("next"))
    response = RedirectResponse(address, 303)
    # Lax, for the provider's page is what sends the browser back.
    response.set_cookie(
        COOKIE,
        str(way.signer.dumps(kept)),
        max_age=WITHIN_S,
        path="/oidc",
        httponly=True,
        secure=site_of(request).secure,
        samesite="lax",
    )
    return response


@router.get(BACK)
def come_back(request: Request) -> Response:
    """Take what the provider says."""
    way: Way = request.app.state.oidc
    kept = _kept(way.signer, request)
    try:
        name, role = way.provider.who(request.query_params.get("code", ""), _back(request), kept)
    except NotVouchedError as error:
        log.warning("oidc.failed", error=str(error))
        raise HTTPException(401, "the identity provider did not vouch for you") from error
    if role is None or not name:
        raise HTTPException(403, "none of your groups has a role here: ask an administrator")
    return _begun(request, f"{FROM_PROVIDER}{name}"[:64], role, kept["next"])


def _begun(request: Request, name: str, role: str, following: str) -> Response:
    """A page that goes on by itself: a redirect would still count as the provider's, and our cookie stay behind."""
    site = site_of(request)
    with site.store.writing() as change:
        change.note(name, "log in", name, f"as {role}, from {caller(request)}")
    response = page(request, "welcome.html", None, following=within(following))
    keep(request, response, site.sessions.begin(name, role))
    response.delete_cookie(COOKIE, path="/oidc", httponly=True, secure=site.secure, samesite="lax")
    return response


def _kept(signer: URLSafeTimedSerializer, request: Request) -> Mapping[str, str]:
    try:
        kept: Mapping[str, str] = signer.loads(request.cookies.get(COOKIE, ""), max_age=WITHIN_S)
    except BadData:
        raise HTTPException(400, "this login was not begun here, or too long ago: begin again") from None
    if not hmac.compare_digest(request.query_params.get("state", "").encode(), kept["state"].encode()):
        raise HTTPException(400, "this login was not begun here: begin again")
    return kept


def _back(request: Request) -> str:
    scheme = "https" if site_of(request).secure else "http"
    host = request.headers.get("host", "")
    if site_of(request).settings.web.behind_proxy:
        host = (",".join(request.headers.getlist("x-forwarded-host")) or host).rsplit(",", 1)[-1].strip()
    return f"{scheme}://{host}{BACK}"
