"""An object that is coming in: its bytes go to the disk as they come, and are never in memory as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from iscl_monai.dicom.derive import IMPLEMENTATION_CLASS_UID
from iscl_monai.service.receiving.limits import TooMuchError
from iscl_monai.service.receiving.spooled_file import SpooledFile
from iscl_monai.service.receiving.verdict import Verdict

# Bytes after which the space on the disk is checked again: many large objects may come at once.
CHECK_SPACE_EVERY = 16 * 2**20
IMPLEMENTATION_NAME = "ISCL_MONAI"


def file_meta(sop_class: str, sop_instance: str, syntax: str, sender: str) -> bytes:
    """Preamble and File Meta Information of a file (PS3.10 7.1), whatever form the UIDs have."""
    uids = ((2, sop_class), (3, sop_instance), (0x10, syntax), (0x12, IMPLEMENTATION_CLASS_UID))
    elements = [_element(1, b"OB", b"\0\1"), *(_element(number, b"UI", _padded(text, b"\0")) for number, text in uids)]
    elements.append(_element(0x13, b"SH", _padded(IMPLEMENTATION_NAME, b" ")))
    elements.append(_element(0x16, b"AE", _padded(sender, b" ")))
    group = b"".join(elements)
    return b"\0" * 128 + b"DICM" + _element(0, b"UL", len(group).to_bytes(4, "little")) + group


def _element(number: int, kind: bytes, value: bytes) -> bytes:
    width = 4 if kind == b"OB" else 2
    head = b"\2\0" + number.to_bytes(2, "little") + kind + (b"\0\0" if width == 4 else b"")
    return head + len(value).to_bytes(width, "little") + value


def _padded(text: str, filler: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + filler * (len(value) % 2)


class Spool:
    """Stands in for pynetdicom's temporary file of a C-STORE.

    When it cannot be written, the rest of the object is read and dropped, so that the sender gets a response.

    Args:
        path: to write.
        head: the first bytes: all that comes before the data set.
        syntax: Transfer Syntax UID of the data set.
        largest_bytes: of the object.
        no_room_reason: gives why nothing can be stored now, or "".
        rejected: why it is not stored, whatever is in it; nothing is written then.
    """

    def __init__(
        self,
        path: Path,
        head: bytes,
        syntax: str,
        largest_bytes: int,
        no_room_reason: Callable[[], str],
        rejected: Verdict | None = None,
    ) -> None:
        self.path = path
        self.name = str(path)
        self.file = self  # pynetdicom flushes this
        self.rejected = rejected
        self.busy = "" if rejected else no_room_reason()
        self._largest = largest_bytes
        self._no_room_reason = no_room_reason
        self._size = 0
        self._begin = len(head)
        self._syntax = syntax
        self._digest = hashlib.sha256(syntax.encode())
        self._check_space_at = CHECK_SPACE_EVERY
        self._open = None if rejected or self.busy else self._open_file(head)

    def _open_file(self, head: bytes) -> BinaryIO | None:
        try:
            file = self.path.open("xb", buffering=2**18)
            file.write(head)
            return file
        except OSError as error:
            self._fail(error)
            return None

    def write(self, data: bytes) -> None:
        """Append bytes of the object.

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
            self._digest.update(data)
            self._open.write(data)
        except OSError as error:
            self._fail(error)
            return
        if self._size >= self._check_space_at:
            self._check_space_at += CHECK_SPACE_EVERY
            self.busy = self._no_room_reason()
            if self.busy:
                self.discard()

    def flush(self) -> None:
        """Does nothing: the file is flushed once, when it is complete."""

    def complete(self) -> None:
        """The last fragment has come."""
        if self._open is not None:
            try:
                self._open.flush()
            except OSError as error:
                self._fail(error)

    @property
    def spooled(self) -> SpooledFile | None:
        """What is known of the file, once it is complete; None if it could not be written."""
        if self._open is None:
            return None
        return SpooledFile(self._syntax, self._begin, self._digest.hexdigest(), self._open)

    def close(self) -> None:
        """Called by pynetdicom when the request has been answered."""
        self.discard()

    def discard(self) -> None:
        """Remove the file; if the intake has taken it, it is not there any more."""
        if self._open is not None:
            file, self._open = self._open, None
            with suppress(OSError):
                file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        self.busy = f"the node cannot store now: {error.strerror or error}"
        self.discard()
