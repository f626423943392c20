"""Whether the node is alive, and whether it can take objects now; for machines that ask all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.web.site import Site, site_of

CHECK_EVERY_S = 1.0
# Kinds of parts that a restart does not cure; their names go on with the peer or the loop that they are about.
NOT_CURED_BY_RESTART = ("disk", "database", "sweep", "destination", "notify", "loop")

THREADS = CapacityLimiter(4)  # of their own: pages, however slow, keep no probe waiting

router = APIRouter()


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """200 while every part of the node is alive; gives kinds of parts only, as it needs no login.

    ``degraded`` are those that do not do their work, and would not do it after a restart either.
    """
    parts = await to_thread.run_sync(site_of(request).health, limiter=THREADS)
    kinds = {name.partition(" ")[0] for name, (well, _) in parts.items() if not well}
    failing, degraded = sorted(kinds - set(NOT_CURED_BY_RESTART)), sorted(kinds & set(NOT_CURED_BY_RESTART))
    status = "failing" if failing else "degraded" if degraded else "ok"
    return JSONResponse({"status": status, "failing": failing, "degraded": degraded}, 503 if failing else 200)


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 while objects can be taken: there is room, and the database can be written."""
    ready: Readiness = request.app.state.readiness
    lacking = await to_thread.run_sync(ready, limiter=THREADS)
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
            self.site.store.prove_writable()
        except StoreUnavailable:
            lacking.append("database")
        return lacking
