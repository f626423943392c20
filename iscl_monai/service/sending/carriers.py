"""How objects get to a peer: C-STORE, or STOW-RS (in a module of its own). Both tell what became of each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from iscl_monai.service.sending.dimse import Line, NotOfferedError, UnreachableError, contexts

_config.STORE_SEND_CHUNKED_DATASET = True  # files go out as the bytes they are, and are never in memory as a whole

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What became of one delivery.

    Args:
        row: of ``deliveries``.
        kind: ``sent``: the peer says it has it; ``later``: it has no room now; ``refused``: it does not take it;
            ``gone``: we cannot send it.
        reason: in the peer's words where it gave any.
    """

    row: Row
    kind: Literal["sent", "later", "refused", "gone"]
    reason: str = ""


class CutError(UnreachableError):
    """The connection ended while an object was on its way.

    Args:
        reason: what happened.
        row: the delivery; the object may have arrived or not.
    """

    def __init__(self, reason: str, row: Row) -> None:
        super().__init__(reason)
        self.row = row


class Carrier(Protocol):
    """Brings objects to a peer."""

    def carry(self, rows: Sequence[Row], wanted: Callable[[Row], bool]) -> Generator[Answer, None, None]:
        """Send, in this order, and tell each answer as it comes.

        Args:
            rows: of ``deliveries``, waiting.
            wanted: asked before each object: whether it shall still be sent.

        Raises:
            UnreachableError: the peer cannot be spoken with (any more); what was not answered has not been sent.
            CutError: the same, while an object was on its way.
        """
        ...

    def hang_up(self) -> None:
        """End at once what another thread is doing here."""
        ...


class StoreSCU:
    """C-STORE, all objects on one association.

    Args:
        line: to the peer.
        data: folder that files are below.
    """

    def __init__(self, line: Line, data: Path) -> None:
        self.line = line
        self.data = data

    def carry(self, rows: Sequence[Row], wanted: Callable[[Row], bool]) -> Generator[Answer, None, None]:
        """See :class:`Carrier`."""
        try:
            association = self.line.open(contexts(row["sop_class_uid"] for row in rows))
        except NotOfferedError as error:
            yield from (Answer(row, "refused", str(error)) for row in rows)
            return
        try:
            for row in rows:
                if wanted(row):
                    yield self._send(association, row)
        finally:
            self.line.close(association)

    def hang_up(self) -> None:
        """See :class:`Carrier`."""
        self.line.hang_up()

    def _send(self, association: Association, row: Row) -> Answer:
        path = self.data / row["file"]
        if not association.is_established:
            raise UnreachableError("the peer ended the association")
        if not path.is_file():
            return Answer(row, "gone", "its file is not there any more")
        try:
            status = _store(association, path)
        except ValueError:  # no accepted context fits
            return Answer(row, "refused", "the peer does not accept its SOP Class")
        except RuntimeError:  # ended between two lines of this function
            raise UnreachableError("the peer ended the association") from None
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            return Answer(row, "gone", f"its file cannot be read: {type(error).__name__}")
        if "Status" not in status:
            raise CutError("the connection ended, or no answer came, while an object was on its way", row)
        return _answer(row, status)


def _store(association: Association, path: Path) -> Dataset:
    """C-STORE: the bytes of the file if the peer takes their syntax, else what they mean in one that it takes."""
    with suppress(ValueError):
        return association.send_c_store(path, priority=0)
    dataset = pydicom.dcmread(path)
    return association.send_c_store(dataset, priority=0)


def _answer(row: Row, status: Dataset) -> Answer:
    code = int(status.Status)
    told = "" if code == 0 else describe(code)
    if code_to_category(code) in ("Success", "Warning"):
        return Answer(row, "sent", told)
    return Answer(row, "later" if 0xA700 <= code <= 0xA7FF else "refused", told)


def describe(code: int) -> str:
    """A status of storage, in the standard's words; a peer's own comment may tell of a patient."""
    meaning = STORAGE_SERVICE_CLASS_STATUS.get(code, ("", ""))[1]
    return ": ".join(part for part in (f"0x{code:04X}", meaning) if part)
