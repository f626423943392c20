"""Whether the node lives, and whether it can take objects now; for machines that ask all the time."""

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

ASKED_ANEW_S = 1.0
NOT_A_MATTER_OF_LIFE = ("disk",)  # starting the node again makes no room: that is what readyz tells

router = APIRouter()


@router.get("/healthz")
def healthz(request: Request) -> Response:
    """200 while every part of the node is alive; only says which is not, for nobody has to log in."""
    parts = site_of(request).health()
    failing = [name for name, (well, _) in parts.items() if not well and name not in NOT_A_MATTER_OF_LIFE]
    return JSONResponse({"status": "failing" if failing else "ok", "failing": failing}, 503 if failing else 200)


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """200 while objects can be taken: there is room, and the database can be written."""
    ready: Readiness = request.app.state.readiness
    lacking = ready()
    return JSONResponse({"status": "not ready" if lacking else "ready", "lacking": lacking}, 503 if lacking else 200)


class Readiness:
    """Asks the disk and the database, but not more often than once a second: anybody may call.

    Args:
        site: ours.
        clock: monotonic, in seconds.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.clock = clock
        self._told: tuple[float, list[str]] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> list[str]:
        """What is lacking; nothing when objects can be taken."""
        if not self._lock.acquire(blocking=False):  # somebody is asking; a database that hangs shall hold up one thread
            return self._told[1] if self._told else ["answer"]
        try:
            if self._told is None or self.clock() - self._told[0] >= ASKED_ANEW_S:
                self._told = (self.clock(), self._lacking())
            return self._told[1]
        finally:
            self._lock.release()

    def _lacking(self) -> list[str]:
        lacking = ["disk"] if self.site.intake.space.refuses() else []
        try:
            with self.site.store.writing() as change:  # changes no row, but needs all that a change needs
                change.execute(update(users).where(users.c.name == "").values(role=users.c.role))
        except StoreUnavailable:
            lacking.append("database")
        return lacking
