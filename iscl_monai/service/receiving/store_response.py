"""The answer to a C-STORE as bytes (PS3.7 9.3.1.2): one goes out for every slice that comes in.

pynetdicom makes a data set of it and encodes it twice, which takes as long as all the rest of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from pynetdicom.dimse_primitives import C_STORE

SOP_CLASS_UID, COMMAND_FIELD, RESPONDED_TO, DATA_SET_TYPE = 0x0002, 0x0100, 0x0120, 0x0800
STATUS, ERROR_COMMENT, SOP_INSTANCE_UID = 0x0900, 0x0902, 0x1000
C_STORE_RSP, NO_DATA_SET = 0x8001, 0x0101
LAST_OF_COMMAND, MORE_OF_COMMAND = b"\3", b"\1"  # message control headers (PS3.8 annex E.2)
PDV_HEADER = 6  # bytes of a presentation data value item that come before its data


def command_set(response: C_STORE) -> bytes:
    """The command set of a C-STORE-RSP in Implicit VR Little Endian, elements in the order of their numbers."""
    assert response.MessageIDBeingRespondedTo is not None
    assert response.Status is not None
    elements = [
        _uid(SOP_CLASS_UID, response.AffectedSOPClassUID),
        _number(COMMAND_FIELD, C_STORE_RSP),
        _number(RESPONDED_TO, response.MessageIDBeingRespondedTo),
        _number(DATA_SET_TYPE, NO_DATA_SET),
        _number(STATUS, response.Status),
        _text(ERROR_COMMENT, response.ErrorComment),
        _uid(SOP_INSTANCE_UID, response.AffectedSOPInstanceUID),
    ]
    group = b"".join(elements)
    return _element(0, len(group).to_bytes(4, "little")) + group


def fragments(commands: bytes, longest_pdu: int) -> Iterator[bytes]:
    """A command set as the data of presentation data values, each of which fits into a PDU.

    Args:
        commands: the command set.
        longest_pdu: bytes of a P-DATA-TF that the peer takes; 0 if it takes any.
    """
    step = max(1, longest_pdu - PDV_HEADER) if longest_pdu else len(commands)
    for begin in range(0, len(commands), step):
        last = begin + step >= len(commands)
        yield (LAST_OF_COMMAND if last else MORE_OF_COMMAND) + commands[begin : begin + step]


def _number(element: int, value: int) -> bytes:
    return _element(element, value.to_bytes(2, "little"))


def _uid(element: int, value: str | None) -> bytes:
    encoded = (value or "").encode("ascii", "replace")
    return _element(element, encoded + b"\0" * (len(encoded) % 2)) if value is not None else b""


def _text(element: int, value: str | None) -> bytes:
    encoded = (value or "").encode("ascii", "replace")
    return _element(element, encoded + b" " * (len(encoded) % 2)) if value is not None else b""


def _element(element: int, value: bytes) -> bytes:
    return b"\0\0" + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
