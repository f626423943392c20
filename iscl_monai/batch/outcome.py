"""How an attempt at a series ended, as data that travels between processes."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from iscl_monai.errors import MemoryRefusal, Refusal

REFUSED, NO_MEMORY, DISK_FULL, FAULT = "refused", "no memory", "the disk is full", "a fault of ours"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it ended.

    Attributes:
        failed: ``""`` when the images are there; else one of the kinds above. All but the first may pass.
        reason: in a line.
        digest: of the files that were denoised.
        wall_s: seconds.
        cpu_s: CPU seconds.
        result_bytes: of the files that were written.
    """

    failed: str = ""
    reason: str = ""
    digest: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    result_bytes: int = 0


def failure(error: Exception) -> Outcome:
    """What an error means for the series."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if _no_room(error):
        return Outcome(failed=DISK_FULL, reason=reason)
    if isinstance(error, (MemoryError, MemoryRefusal)):
        return Outcome(failed=NO_MEMORY, reason=reason)
    if isinstance(error, Refusal):
        return Outcome(failed=REFUSED, reason=reason)
    return Outcome(failed=FAULT, reason=f"{type(error).__name__}: {reason}"[:500])


def _no_room(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
