"""The application: its parts, its routes, and its answers to errors."""

from __future__ import annotations

import mimetypes
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.search_keys import SearchKeys
from iscl_monai.service.settings import Settings
from iscl_monai.service.web import (
    destination_pages,
    lists,
    login,
    metrics,
    oidc,
    pictures,
    probes,
    queue_pages,
    rule_pages,
    series_pages,
    stow,
    user_pages,
)
from iscl_monai.service.web.controls import Controls
from iscl_monai.service.web.counts import Counts
from iscl_monai.service.web.devices import Devices
from iscl_monai.service.web.guard import NotLoggedInError, redirect_to_login
from iscl_monai.service.web.pairs import Pairs
from iscl_monai.service.web.provider import Provider
from iscl_monai.service.web.sessions import COOKIE, Sessions, session_key
from iscl_monai.service.web.shield import Shield
from iscl_monai.service.web.site import STATIC, Counted, Health, Site, page, site_of
from iscl_monai.service.web.throttle import Throttle

ROUTERS = (
    login,
    queue_pages,
    series_pages,
    destination_pages,
    rule_pages,
    lists,
    user_pages,
    pictures,
    stow,
    probes,
    metrics,
)


def create_app(
    settings: Settings,
    store: Store,
    intake: Intake,
    health: Health,
    counts: Counted = Counts,
    controls: Controls | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        settings: of the node.
        store: the database.
        intake: takes what STOW-RS brings.
        health: of the parts of the node: whether each is well, and a description.
        counts: of faults since the start.
        controls: of the running node; None: nothing runs behind the pages.

    Raises:
        ConfigRefusal: a file that the settings name cannot be read, or the session key is not ours alone.
    """
    key = session_key(settings.data)
    sessions = Sessions(store, key, settings.web.session_h)
    site = Site(
        settings,
        store,
        intake,
        health,
        counts,
        controls or Controls(),
        sessions,
        Throttle(time.monotonic),
        SearchKeys(settings.data),
    )
    app = FastAPI(title="ISCL node", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    app.state.pairs = Pairs(store)
    app.state.devices = Devices(key)
    app.state.readiness = probes.Readiness(site)
    app.state.metrics = metrics.registry_of(site)
    app.state.metrics_token = metrics.metrics_token(settings.web.metrics_token_file)
    for module in ROUTERS:
        app.include_router(module.router)
    if settings.web.oidc is not None:
        oidc.add_routes(app, Provider(settings.web.oidc), key)
    _serve_static(app)
    _handle_errors(app)
    app.add_middleware(Shield, secure=site.secure, streamed=stow.ROOT)
    return app


def _serve_static(app: FastAPI) -> None:
    """Serve files from memory, by exact names: no name from outside becomes a path."""
    files = {path.name: (path.read_bytes(), mimetypes.guess_type(path.name)[0]) for path in STATIC.iterdir()}

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        data, kind = files[name]
        return Response(data, media_type=kind, headers={"Cache-Control": "public, max-age=86400"})


def _handle_errors(app: FastAPI) -> None:
    """Answer all errors in one way: a page for people, one line for machines."""

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error_response(request, error.status_code, str(error.detail), error.headers)

    async def not_logged_in(request: Request, error: Exception) -> Response:
        return redirect_to_login(request)

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        in_path = any(one["loc"][:1] == ("path",) for one in error.errors())
        return _error_response(
            request, 404 if in_path else 422, "there is nothing at this address, or the form is not whole"
        )

    async def not_allowed_now(request: Request, error: Exception) -> Response:
        assert isinstance(error, NotAllowedNow)
        return _error_response(request, 409, f"{error.came}. Allowed: {error.allowed}. Do: {error.cure}.")

    async def store_unavailable(request: Request, error: Exception) -> Response:
        log.error("web.store", error=str(error))
        return _error_response(request, 503, "the database cannot be used at the moment")

    async def fault(request: Request, error: Exception) -> Response:
        log.error("web.fault", path=request.url.path, error=type(error).__name__)  # uvicorn logs where
        return _error_response(request, 500, "a fault of ours; it is in the log")

    handlers: dict[Any, Any] = {
        HTTPException: http_error,
        NotLoggedInError: not_logged_in,
        RequestValidationError: malformed,
        NotAllowedNow: not_allowed_now,
        StoreUnavailable: store_unavailable,
        Exception: fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _error_response(request: Request, status: int, text: str, headers: Any = None) -> Response:
    if request.url.path.startswith(stow.ROOT) or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": text}, status, headers)
    person = None
    with suppress(StoreUnavailable):  # without a database nobody can be recognised
        person = site_of(request).sessions.person(request.cookies.get(COOKIE, ""))
    phrase = HTTPStatus(status).phrase
    response = page(request, "error.html", person, status=status, code=status, phrase=phrase, text=text)
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response
