"""What became of an object that was sent to us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """What became of an object that was sent to us.

    Args:
        kind: ``stored`` or ``duplicate``: we have it, durably; ``unsuitable``: it is not taken, and never will be;
            ``busy``: not now; ``offered``: its SOP Class or transfer syntax was only proposed, and not accepted.
        reason: why not, in words without patient data.
        sop_class_uid: its SOP Class UID, "" if unknown.
        sop_instance_uid: its SOP Instance UID, "" if unknown.
        mismatch: it is not the object that the request named.
        other_version: an object of its SOP Instance UID with other content is here.
    """

    kind: Literal["stored", "duplicate", "unsuitable", "busy", "offered"]
    reason: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    mismatch: bool = False
    other_version: bool = False

    @property
    def taken(self) -> bool:
        """Whether success may be answered."""
        return self.kind in ("stored", "duplicate")
