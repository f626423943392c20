"""Whether the node is alive, and whether it can take objects now; for machines that ask all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from sqlalchemy import update
from starlette.responses import JSONResponse, Response

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.tables import users
from iscl_monai.service.web.site import Site, site_of

CHECK_EVERY_S = 1.0
NOT_CURED_BY_RESTART = ("disk",)  # readyz reports it

router = APIRouter()


@router.get("/healthz")
def healthz(request: Request) -> Response:
    """200 while every part of the node is alive; gives names only, as it needs no login."""
    parts = site_of(request).health()
    failing = [name for name, (well, _) in parts.items() if not well and name not in NOT_CURED_BY_RESTART]
    return JSONResponse({"status": "failing" if failing else "ok", "failing": failing}, 503 if failing else 200)


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """200 while objects can be taken: there is room, and the database can be written."""
    ready: Readiness = request.app.state.readiness
    lacking = ready()
    return JSONResponse({"status": "not ready" if lacking else "ready", "lacking": lacking}, 503 if lacking else 200)


class Readiness:
    """Checks the disk and the database, but not more often than once a second: anybody may call.

    Args:
        site: ours.
        clock: monotonic, in seconds.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.clock = clock
        self._last_check: tuple[float, list[str]] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> list[str]:
        """Names of what is lacking; none when objects can be taken."""
        # another thread checks; a database that hangs shall hold up one only
        if not self._lock.acquire(blocking=False):
            return self._last_check[1] if self._last_check else ["answer"]
        try:
            if self._last_check is None or self.clock() - self._last_check[0] >= CHECK_EVERY_S:
                self._last_check = (self.clock(), self._lacking())
            return self._last_check[1]
        finally:
            self._lock.release()

    def _lacking(self) -> list[str]:
        lacking = ["disk"] if self.site.intake.space.no_room_reason() else []
        try:
            with self.site.store.writing() as change:  # changes no row, but needs all that a change needs
                change.execute(update(users).where(users.c.name == "").values(role=users.c.role))
        except StoreUnavailable:
            lacking.append("database")
        return lacking
