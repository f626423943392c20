"""What a peer has, and how to get it: C-FIND and C-MOVE, or QIDO-RS and WADO-RS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from iscl_monai.service.receiving.intake import Intake, is_uid
from iscl_monai.service.sending.dicomweb import Web, value
from iscl_monai.service.sending.dimse import Line, UnreachableError, contexts

FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
PENDING = (0xFF00, 0xFF01)
MOVE_ANSWER_S = 600.0  # some archives say nothing until they have fetched a series from tape


@dataclass(frozen=True)
class Found:
    """A CT series that a peer has.

    Args:
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        description: Series Description, for comparing only.
        count: of its objects; 0 if the peer does not tell.
    """

    study_uid: str
    series_uid: str
    description: str
    count: int


class Finder(Protocol):
    """Asks one peer. Everything raises :class:`iscl_monai.service.sending.dimse.UnreachableError`."""

    def studies(self, dates: str) -> Iterator[list[Found]]:
        """The CT series of each study with CT whose Study Date is in a range (PS3.4 C.2.2.2.5)."""
        ...

    def objects(self, found: Found) -> list[str]:
        """ImageType of each object, values joined by backslashes, "" where the peer does not tell."""
        ...

    def retrieve(self, found: Found) -> str:
        """Have a series come to us; how it went, in words."""
        ...

    def hang_up(self) -> None:
        """End at once what another thread is doing here."""
        ...


class DimseFinder:
    """C-FIND; C-MOVE to our own AE title, so that objects come by the receiver.

    Args:
        line: to the peer.
        ae_title: ours.
    """

    def __init__(self, line: Line, ae_title: str) -> None:
        self.line = line
        self.ae_title = ae_title

    def studies(self, dates: str) -> Iterator[list[Found]]:
        """See :class:`Finder`."""
        with self.line.opened(contexts([FIND])) as association:
            wanted = {"StudyDate": dates, "ModalitiesInStudy": "CT", "StudyInstanceUID": ""}
            for study in _find(association, "STUDY", wanted):
                uid = str(study.get("StudyInstanceUID", ""))
                if is_uid(uid):
                    yield [_of_dimse(uid, one) for one in self._series(association, uid)]

    def _series(self, association: Association, study_uid: str) -> list[Dataset]:
        wanted = {
            "StudyInstanceUID": study_uid,
            "Modality": "CT",
            "SeriesInstanceUID": "",
            "SeriesDescription": "",
            "NumberOfSeriesRelatedInstances": None,
        }
        found = _find(association, "SERIES", wanted)
        return [one for one in found if one.get("Modality") == "CT" and is_uid(str(one.get("SeriesInstanceUID", "")))]

    def objects(self, found: Found) -> list[str]:
        """See :class:`Finder`."""
        wanted = {"StudyInstanceUID": found.study_uid, "SeriesInstanceUID": found.series_uid}
        with self.line.opened(contexts([FIND])) as association:
            there = _find(association, "IMAGE", {**wanted, "SOPInstanceUID": "", "ImageType": ""})
        return [_joined(one.get("ImageType", "")) for one in there]

    def retrieve(self, found: Found) -> str:
        """See :class:`Finder`."""
        asked = _identifier("SERIES", {"StudyInstanceUID": found.study_uid, "SeriesInstanceUID": found.series_uid})
        with self.line.opened(contexts([MOVE]), answer_s=MOVE_ANSWER_S) as association:
            last = Dataset()
            try:
                for status, _ in association.send_c_move(asked, self.ae_title, MOVE):
                    last = status
            except (RuntimeError, ValueError) as error:
                raise UnreachableError(f"C-MOVE: {error}") from error
        if "Status" not in last:
            raise UnreachableError("C-MOVE: no answer")
        done, failed = (int(last.get(f"NumberOf{kind}Suboperations", None) or 0) for kind in ("Completed", "Failed"))
        return f"C-MOVE 0x{int(last.Status):04X}, {done} objects sent, {failed} failed"

    def hang_up(self) -> None:
        """See :class:`Finder`."""
        self.line.hang_up()


class WebFinder:
    """QIDO-RS; WADO-RS, each object through the same door as those that are sent to us.

    Args:
        web: the server.
        intake: takes objects.
    """

    def __init__(self, web: Web, intake: Intake) -> None:
        self.web = web
        self.intake = intake
        self._stopped = False

    def studies(self, dates: str) -> Iterator[list[Found]]:
        """See :class:`Finder`."""
        for study in self.web.search("/studies", StudyDate=dates, ModalitiesInStudy="CT"):
            uid = "".join(value(study, "0020000D")[:1])
            if is_uid(uid):
                path = f"/studies/{uid}/series"
                series = self.web.search(path, Modality="CT", includefield="0008103E,00201209")
                yield [_of_web(uid, one) for one in series if is_uid("".join(value(one, "0020000E")[:1]))]

    def objects(self, found: Found) -> list[str]:
        """See :class:`Finder`."""
        there = self.web.search(f"{_path(found)}/instances", includefield="00080008")
        return ["\\".join(value(one, "00080008")) for one in there]

    def retrieve(self, found: Found) -> str:
        """See :class:`Finder`."""
        taken = refused = 0
        for part in self.web.retrieve(_path(found), self.intake.new_part, self.intake.largest_bytes):
            if self.intake.accept(part, sender=self.web.peer.name).taken:
                taken += 1
            else:
                refused += 1
            if self._stopped:
                raise UnreachableError("the node stops")
        return f"WADO-RS, {taken} objects taken, {refused} refused"

    def hang_up(self) -> None:
        """See :class:`Finder`; it ends after the object that is on its way, or the timeout."""
        self._stopped = True


def _path(found: Found) -> str:
    return f"/studies/{found.study_uid}/series/{found.series_uid}"


def _identifier(level: str, wanted: dict[str, Any]) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, text in wanted.items():
        setattr(asked, keyword, text)
    return asked


def _find(association: Association, level: str, wanted: dict[str, Any]) -> list[Dataset]:
    found = []
    try:
        for status, one in association.send_c_find(_identifier(level, wanted), FIND):
            code = status.get("Status")
            if code in PENDING and one is not None:
                found.append(one)
            elif code != 0x0000 and code not in PENDING:
                told = "no answer" if code is None else f"status 0x{code:04X}"
                raise UnreachableError(f"C-FIND {level}: {told}")
    except (RuntimeError, ValueError) as error:
        raise UnreachableError(f"C-FIND {level}: {error}") from error
    return found


def _of_dimse(study_uid: str, one: Dataset) -> Found:
    told = one.get("NumberOfSeriesRelatedInstances", None)
    return Found(study_uid, str(one.SeriesInstanceUID), str(one.get("SeriesDescription", "") or ""), _count([told]))


def _of_web(study_uid: str, one: Any) -> Found:
    description = "".join(value(one, "0008103E")[:1])
    return Found(study_uid, value(one, "0020000E")[0], description, _count(value(one, "00201209")))


def _count(told: Iterable[Any]) -> int:
    """A number that may be missing, or none."""
    try:
        return max(0, int(next(iter(told), 0) or 0))
    except (TypeError, ValueError):
        return 0


def _joined(told: Any) -> str:
    return told if isinstance(told, str) else "\\".join(str(one) for one in told or ())
