"""How objects get to a peer: C-STORE, or STOW-RS (in a module of its own). Both yield the result of each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.log import log
from iscl_monai.service.sending.dimse import DimseClient, NotOfferedError, UnreachableError, presentation_contexts

_config.STORE_SEND_CHUNKED_DATASET = True  # files go out as the bytes they are, and are never in memory as a whole


ResultKind = Literal["sent", "later", "refused", "gone"]


@dataclass(frozen=True)
class SendResult:
    """What became of one delivery.

    Args:
        delivery: its row.
        kind: ``sent``: the peer answered success; ``later``: it has no room now; ``refused``: it does not take the
            object; ``gone``: our file cannot be read, so that it can never be sent.
        reason: the meaning of the peer's status, if it is no plain success.
    """

    delivery: DeliveryRow
    kind: ResultKind
    reason: str = ""


class ConnectionLostError(UnreachableError):
    """The connection ended while an object was on its way.

    Args:
        reason: what happened.
        delivery: its row; the object may have arrived or not.
    """

    def __init__(self, reason: str, delivery: DeliveryRow) -> None:
        super().__init__(reason)
        self.delivery = delivery


class Carrier(Protocol):
    """Sends objects to a peer."""

    def send_all(
        self, rows: Sequence[DeliveryRow], still_wanted: Callable[[DeliveryRow], bool]
    ) -> Generator[SendResult, None, None]:
        """Send, in this order, and yield each result as soon as it is known.

        Args:
            rows: of ``deliveries``, waiting.
            still_wanted: called before each object: whether it shall still be sent.

        Raises:
            UnreachableError: the peer cannot be reached (any more); what has no result has not been sent.
            ConnectionLostError: the same, while an object was on its way.
        """
        ...

    def abort(self) -> None:
        """End at once what another thread is doing here."""
        ...


class StoreSCU:
    """Sends by C-STORE, all objects on one association.

    Args:
        client: of the peer.
        data: folder that files are below.
    """

    def __init__(self, client: DimseClient, data: Path) -> None:
        self.client = client
        self.data = data

    def send_all(
        self, rows: Sequence[DeliveryRow], still_wanted: Callable[[DeliveryRow], bool]
    ) -> Generator[SendResult, None, None]:
        """See :class:`Carrier`."""
        try:
            association = self.client.open(presentation_contexts(row.sop_class_uid for row in rows))
        except NotOfferedError as error:
            yield from (SendResult(row, "refused", str(error)) for row in rows)
            return
        try:
            for row in rows:
                if still_wanted(row):
                    yield self._send(association, row)
        finally:
            self.client.close(association)

    def abort(self) -> None:
        """See :class:`Carrier`."""
        self.client.abort_all()

    def _send(self, association: Association, row: DeliveryRow) -> SendResult:
        path = self.data / row.file
        if not association.is_established:
            raise UnreachableError("the peer ended the association")
        if not path.is_file():
            return SendResult(row, "gone", "its file is not there any more")
        try:
            status = _store(association, path)
        except ValueError:  # no accepted context fits
            return SendResult(row, "refused", "the peer does not accept its SOP Class")
        except RuntimeError as error:
            if association.is_established:  # it is about the object
                return fault_of(row, error)
            raise UnreachableError("the peer ended the association") from None
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            return SendResult(row, "gone", f"its file cannot be read: {type(error).__name__}")
        except Exception as error:  # pydicom raises nearly anything about a damaged file; the others are sent
            return fault_of(row, error)
        if "Status" not in status:
            raise ConnectionLostError("the connection ended, or no answer came, while an object was on its way", row)
        return _result(row, status)


def fault_of(row: DeliveryRow, error: Exception) -> SendResult:
    """An object that we fail to send, for a reason nobody has foreseen: counted and repeated as one that is refused."""
    log.error("sender.fault", delivery=row.id, error=type(error).__name__, exc_info=True)
    return SendResult(row, "refused", f"the node cannot send it ({type(error).__name__}), see the log")


def _store(association: Association, path: Path) -> Dataset:
    """C-STORE: the bytes of the file if the peer accepts their transfer syntax, else encoded in one that it accepts."""
    with suppress(ValueError):
        return association.send_c_store(path, priority=0)
    dataset = pydicom.dcmread(path)
    return association.send_c_store(dataset, priority=0)


def _result(row: DeliveryRow, status: Dataset) -> SendResult:
    code = int(status.Status)
    reason = "" if code == 0 else describe_status(code)
    if code_to_category(code) in ("Success", "Warning"):
        return SendResult(row, "sent", reason)
    return SendResult(row, "later" if 0xA700 <= code <= 0xA7FF else "refused", reason)


def describe_status(code: int) -> str:
    """A status of storage, in the standard's words; a peer's own comment may contain patient data."""
    meaning = STORAGE_SERVICE_CLASS_STATUS.get(code, ("", ""))[1]
    return ": ".join(part for part in (f"0x{code:04X}", meaning) if part)
