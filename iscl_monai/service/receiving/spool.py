"""An object on its way in: its bytes go to the disk as they come, never through the memory as a whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from iscl_monai.dicom.derive import IMPLEMENTATION_CLASS_UID
from iscl_monai.service.receiving.intake import Verdict
from iscl_monai.service.receiving.limits import TooMuchError

LOOK_EVERY = 16 * 2**20  # bytes, after which the disk is looked at again: many large objects may come at once
IMPLEMENTATION_NAME = "ISCL_MONAI"


def file_meta(sop_class: str, sop_instance: str, syntax: str, sender: str) -> bytes:
    """What stands before the data set in a file (PS3.10 7.1), whatever form the UIDs have."""
    uids = ((2, sop_class), (3, sop_instance), (0x10, syntax), (0x12, IMPLEMENTATION_CLASS_UID))
    elements = [_element(1, b"OB", b"\0\1"), *(_element(number, b"UI", _even(text, b"\0")) for number, text in uids)]
    elements.append(_element(0x13, b"SH", _even(IMPLEMENTATION_NAME, b" ")))
    elements.append(_element(0x16, b"AE", _even(sender, b" ")))
    group = b"".join(elements)
    return b"\0" * 128 + b"DICM" + _element(0, b"UL", len(group).to_bytes(4, "little")) + group


def _element(number: int, kind: bytes, value: bytes) -> bytes:
    width = 4 if kind == b"OB" else 2
    head = b"\2\0" + number.to_bytes(2, "little") + kind + (b"\0\0" if width == 4 else b"")
    return head + len(value).to_bytes(width, "little") + value


def _even(text: str, filler: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + filler * (len(value) % 2)


class Spool:
    """What pynetdicom takes for its temporary file of a C-STORE.

    When it cannot be written, the rest of the object is let go by, so that the sender can be answered in order.

    Args:
        path: to write.
        head: the first bytes.
        largest_bytes: of the object.
        lacking: tells why nothing can be taken now, or "".
        unwanted: why it is not taken, whatever is in it; nothing is written then.
    """

    def __init__(
        self, path: Path, head: bytes, largest_bytes: int, lacking: Callable[[], str], unwanted: Verdict | None = None
    ) -> None:
        self.path = path
        self.name = str(path)
        self.file = self  # pynetdicom flushes this
        self.unwanted = unwanted
        self.busy = "" if unwanted else lacking()
        self._largest = largest_bytes
        self._lacking = lacking
        self._size = 0
        self._look_at = LOOK_EVERY
        self._open = None if unwanted or self.busy else self._opened(head)

    def _opened(self, head: bytes) -> BinaryIO | None:
        try:
            file = self.path.open("xb", buffering=2**18)
            file.write(head)
            return file
        except OSError as error:
            self._give_up(error)
            return None

    def write(self, data: bytes) -> None:
        """Add to it.

        Raises:
            TooMuchError: it is larger than objects may be.
        """
        self._size += len(data)
        if self._size > self._largest:
            self.discard()
            raise TooMuchError(f"an object of more than {self._largest >> 20} MB")
        if self._open is None:
            return
        try:
            self._open.write(data)
        except OSError as error:
            self._give_up(error)
            return
        if self._size >= self._look_at:
            self._look_at += LOOK_EVERY
            self.busy = self._lacking()
            if self.busy:
                self.discard()

    def flush(self) -> None:
        """Not now: once, when it is complete."""

    def complete(self) -> None:
        """All of it has come."""
        if self._open is not None:
            file, self._open = self._open, None
            try:
                file.close()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """What pynetdicom calls when the request has been answered."""
        self.discard()

    def discard(self) -> None:
        """It is not wanted any more; what the intake has taken is gone already."""
        if self._open is not None:
            file, self._open = self._open, None
            with suppress(OSError):
                file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self.busy = f"the node cannot store now: {error.strerror or error}"
        self.discard()
