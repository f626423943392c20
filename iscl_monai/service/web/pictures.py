"""Pictures of single slices, made when they are requested: before, after, and their difference."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, HTTPException, Path, Request
from PIL import Image
from starlette.responses import Response

from iscl_monai.service.log import log
from iscl_monai.service.web.guard import Viewer
from iscl_monai.service.web.pairs import Pairs, job_row
from iscl_monai.service.web.site import site_of

Kind = Literal["before", "after", "difference"]
DIFFERENCE_HU = 50.0
COMPRESSION = 1  # zlib: 58 kB instead of 50 per slice, in a third of the time

router = APIRouter()
Row = Annotated[int, Path(ge=1, le=2**53)]


@dataclass(frozen=True)
class Window:
    """A fixed window of Hounsfield units.

    Args:
        name: of it.
        centre: HU that becomes middle grey.
        width: HU from black to white.
    """

    name: str
    centre: float
    width: float

    def grey(self, hu: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """0 to 255."""
        return _levels((hu - np.float32(self.centre - self.width / 2)) * np.float32(255 / self.width))


WINDOWS = {one.name: one for one in (Window("abdomen", 40, 400), Window("lung", -600, 1500), Window("brain", 40, 80))}


def _levels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    levels: npt.NDArray[np.uint8] = np.nan_to_num(values, nan=0.0).clip(0, 255).round().astype(np.uint8)
    return levels


def difference_levels(before_hu: npt.NDArray[np.float32], after_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """After minus before: -50 HU is 1, no change 128, +50 HU 255."""
    return _levels((after_hu - before_hu) * np.float32(127 / DIFFERENCE_HU) + np.float32(128))


@lru_cache(maxsize=1)
def palette() -> bytes:
    """Colours of the difference: blue for lower, black unchanged, orange for higher; the colour-blind see them, too."""
    steps = np.linspace(-1, 1, 255)[:, None]
    lower, higher = np.array([70.0, 160.0, 255.0]), np.array([255.0, 150.0, 40.0])
    colours = np.where(steps < 0, lower, higher) * np.abs(steps) ** 0.8
    return bytes(np.vstack([colours[:1], colours]).round().astype(np.uint8).tobytes())


def png(what: Kind, window: Window, before_hu: npt.NDArray[np.float32], after_hu: npt.NDArray[np.float32]) -> bytes:
    """One picture."""
    if what == "difference":
        image = Image.fromarray(difference_levels(before_hu, after_hu)).convert("P")
        image.putpalette(palette())
    else:
        image = Image.fromarray(window.grey(before_hu if what == "before" else after_hu))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


@router.get("/jobs/{job_id}/slices/{number}/{what}.png")
def picture(
    request: Request, person: Viewer, job_id: Row, number: Row, what: Kind, window: str = "abdomen"
) -> Response:
    """A slice of a job whose worker has succeeded, counted from 1."""
    job = job_row(site_of(request).store, job_id)
    if job is None or not job.folder or window not in WINDOWS:
        raise HTTPException(404, "there is no such picture (any more)")
    run = hashlib.sha256(job.folder.encode()).hexdigest()[:16]  # of a worker, whose files do not change any more
    tag = f'"{run}-{number}-{what}-{window}"'
    # the browser asks again, so that rights are checked again
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Cookie"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    pairs: Pairs = request.app.state.pairs
    try:
        found = pairs.slice_hu(job, number - 1)
    except Exception as error:  # removed at this moment, or damaged on the disk: pydicom raises nearly anything
        log.warning("picture.failed", job=job_id, error=type(error).__name__)
        raise HTTPException(404, "the files of this slice cannot be read (any more)") from error
    if found is None:
        raise HTTPException(404, "there is no such slice")
    return Response(png(what, WINDOWS[window], *found), media_type="image/png", headers=headers)
