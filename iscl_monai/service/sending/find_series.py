"""What a peer has, and how to get it: C-FIND and C-MOVE, or QIDO-RS and WADO-RS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from iscl_monai.dicom.elements import text_of
from iscl_monai.service.receiving.intake import Intake, is_uid
from iscl_monai.service.sending.dicomweb import DicomWebClient, json_values
from iscl_monai.service.sending.dimse import (
    DimseClient,
    NoAnswerError,
    QueryFailedError,
    UnreachableError,
    presentation_contexts,
)

FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
SUCCESS, SOME_FAILED, PENDING = 0x0000, 0xB000, (0xFF00, 0xFF01)
MOVE_RESPONSE_S = 600.0  # some archives send no response until they have fetched a series from tape


@dataclass(frozen=True)
class FoundSeries:
    """A CT series that a peer has.

    Args:
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        description: Series Description, for comparing only.
        count: of its objects; 0 if the peer does not return it.
    """

    study_uid: str
    series_uid: str
    description: str
    count: int


class Finder(Protocol):
    """Queries one peer. Everything raises :class:`iscl_monai.service.sending.dimse.UnreachableError`."""

    def study_uids(self, dates: str) -> list[str]:
        """Study Instance UIDs of the studies with CT whose Study Date is in a range (PS3.4 C.2.2.2.5)."""
        ...

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        """The CT series of a study."""
        ...

    def image_types(self, found: FoundSeries) -> list[str]:
        """ImageType of each object, values joined by backslashes, "" where the peer does not return it."""
        ...

    def retrieve(self, found: FoundSeries) -> str:
        """Have a series sent to us; the result in words, for the log."""
        ...

    def abort(self) -> None:
        """End at once what another thread is doing here."""
        ...


class DimseFinder:
    """Finds by C-FIND, and retrieves by C-MOVE to our own AE title, so that objects come by the receiver.

    Args:
        client: of the peer.
        ae_title: ours.
    """

    def __init__(self, client: DimseClient, ae_title: str) -> None:
        self.client = client
        self.ae_title = ae_title

    def study_uids(self, dates: str) -> list[str]:
        """See :class:`Finder`."""
        attributes = {"StudyDate": dates, "ModalitiesInStudy": "CT", "StudyInstanceUID": ""}
        with self.client.association(presentation_contexts([FIND])) as association:
            found = [text_of(study, "StudyInstanceUID") for study in _find(association, "STUDY", attributes)]
        return [uid for uid in found if is_uid(uid)]

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        """See :class:`Finder`."""
        attributes = {
            "StudyInstanceUID": study_uid,
            "Modality": "CT",
            "SeriesInstanceUID": "",
            "SeriesDescription": "",
            "NumberOfSeriesRelatedInstances": None,
        }
        with self.client.association(presentation_contexts([FIND])) as association:
            found = _find(association, "SERIES", attributes)
        ct = [one for one in found if text_of(one, "Modality") == "CT" and is_uid(text_of(one, "SeriesInstanceUID"))]
        return [_series_from_dataset(study_uid, one) for one in ct]

    def image_types(self, found: FoundSeries) -> list[str]:
        """See :class:`Finder`."""
        attributes = {"StudyInstanceUID": found.study_uid, "SeriesInstanceUID": found.series_uid}
        with self.client.association(presentation_contexts([FIND])) as association:
            images = _find(association, "IMAGE", {**attributes, "SOPInstanceUID": "", "ImageType": ""})
        return [text_of(image, "ImageType") for image in images]

    def retrieve(self, found: FoundSeries) -> str:
        """See :class:`Finder`."""
        identifier = _identifier("SERIES", {"StudyInstanceUID": found.study_uid, "SeriesInstanceUID": found.series_uid})
        with self.client.association(presentation_contexts([MOVE]), response_timeout_s=MOVE_RESPONSE_S) as association:
            last = Dataset()
            try:
                for status, _ in association.send_c_move(identifier, self.ae_title, MOVE):
                    last = status
            except (RuntimeError, ValueError) as error:
                raise QueryFailedError(f"C-MOVE: {error}") from error
        if "Status" not in last:
            raise NoAnswerError("C-MOVE: no answer")
        done, failed = (int(last.get(f"NumberOf{kind}Suboperations", None) or 0) for kind in ("Completed", "Failed"))
        result = f"C-MOVE 0x{int(last.Status):04X}, {done} objects sent, {failed} failed"
        if int(last.Status) not in (SUCCESS, SOME_FAILED):
            raise QueryFailedError(result)
        return result

    def abort(self) -> None:
        """See :class:`Finder`."""
        self.client.abort_all()


class WebFinder:
    """Finds by QIDO-RS, and retrieves by WADO-RS; each object goes through the intake, as those sent to us.

    Args:
        client: of the server.
        intake: takes objects.
    """

    def __init__(self, client: DicomWebClient, intake: Intake) -> None:
        self.client = client
        self.intake = intake
        self._stopped = False

    def study_uids(self, dates: str) -> list[str]:
        """See :class:`Finder`."""
        found = self.client.search("/studies", StudyDate=dates, ModalitiesInStudy="CT")
        uids = ["".join(json_values(study, "0020000D")[:1]) for study in found]
        return [uid for uid in uids if is_uid(uid)]

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        """See :class:`Finder`."""
        path = f"/studies/{study_uid}/series"
        found = self.client.search(path, Modality="CT", includefield="0008103E,00201209")
        return [_series_from_json(study_uid, one) for one in found if is_uid("".join(json_values(one, "0020000E")[:1]))]

    def image_types(self, found: FoundSeries) -> list[str]:
        """See :class:`Finder`."""
        images = self.client.search(f"{_path(found)}/instances", includefield="00080008")
        return ["\\".join(json_values(image, "00080008")) for image in images]

    def retrieve(self, found: FoundSeries) -> str:
        """See :class:`Finder`."""
        taken = refused = 0
        for part in self.client.retrieve(_path(found), self.intake.new_part, self.intake.largest_bytes):
            if self.intake.accept(part, sender=self.client.peer.name).taken:
                taken += 1
            else:
                refused += 1
            if self._stopped:
                raise UnreachableError("the node stops")
        return f"WADO-RS, {taken} objects taken, {refused} refused"

    def abort(self) -> None:
        """See :class:`Finder`; it ends after the object that is on its way, or the timeout."""
        self._stopped = True


def _path(found: FoundSeries) -> str:
    return f"/studies/{found.study_uid}/series/{found.series_uid}"


def _identifier(level: str, attributes: dict[str, Any]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, text in attributes.items():
        setattr(identifier, keyword, text)
    return identifier


def _find(association: Association, level: str, attributes: dict[str, Any]) -> list[Dataset]:
    found = []
    try:
        for status, match in association.send_c_find(_identifier(level, attributes), FIND):
            code = status.get("Status")
            if code is None:
                raise NoAnswerError(f"C-FIND {level}: no answer")
            if code in PENDING:
                found.append(
                    match if match is not None else Dataset()
                )  # one that cannot be decoded is one all the same
            elif code != SUCCESS:
                raise QueryFailedError(f"C-FIND {level}: status 0x{code:04X}")
    except (RuntimeError, ValueError) as error:
        raise QueryFailedError(f"C-FIND {level}: {error}") from error
    return found


def _series_from_dataset(study_uid: str, dataset: Dataset) -> FoundSeries:
    count = _count([text_of(dataset, "NumberOfSeriesRelatedInstances")])
    return FoundSeries(study_uid, text_of(dataset, "SeriesInstanceUID"), text_of(dataset, "SeriesDescription"), count)


def _series_from_json(study_uid: str, item: Mapping[str, Any]) -> FoundSeries:
    description = "".join(json_values(item, "0008103E")[:1])
    return FoundSeries(study_uid, json_values(item, "0020000E")[0], description, _count(json_values(item, "00201209")))


def _count(values: Iterable[Any]) -> int:
    """The first of some values as a number; 0 if it is missing, or none."""
    try:
        return max(0, int(next(iter(values), 0) or 0))
    except (TypeError, ValueError):
        return 0
