"""What the node answers to DIMSE requests: statuses, and the reason in words."""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from iscl_monai.service.receiving.examination import SOP_CLASSES
from iscl_monai.service.receiving.verdict import Verdict

SUCCESS, BUSY, MISMATCH, NO_CLASS, NOT_UNDERSTOOD, FAILURE = 0x0000, 0xA700, 0xA900, 0x0122, 0xC000, 0x0110
OTHER_VERSION = 0xC001  # of "cannot understand", whose last three digits are ours to give (PS3.4 B.2.3)
INVALID_ARGUMENT, RESOURCE_LIMITATION = 0x0115, 0x0213  # PS3.7 annex C


def status_of(verdict: Verdict) -> int:
    """What C-STORE answers (PS3.4 B.2.3)."""
    if verdict.taken:
        return SUCCESS
    if verdict.kind == "busy":
        return BUSY
    if verdict.mismatch:
        return MISMATCH
    if verdict.other_version:
        return OTHER_VERSION
    return NOT_UNDERSTOOD if verdict.sop_class_uid in SOP_CLASSES else NO_CLASS


def response_of(status: int, reason: str) -> Dataset:
    """A response with a status; the reason in the form that Error Comment may have (PS3.7 annex C)."""
    response = Dataset()
    response.Status = status
    if reason and status != SUCCESS:
        response.ErrorComment = re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", reason)[:64].strip()
    return response


def describe_context(context: Any) -> str:
    """A presentation context in words: its SOP Class, and the transfer syntaxes where the class is one of ours."""
    name = UID(context.abstract_syntax).name
    if str(context.abstract_syntax) not in SOP_CLASSES:
        return name
    return f"{name} in {', '.join(UID(syntax).name for syntax in context.transfer_syntax)}"
