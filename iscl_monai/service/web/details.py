"""What the page of a series shows beyond its rows: read from files, or counted, for each request."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import pydicom
from sqlalchemy import func, select

from iscl_monai.dicom.elements import text_of, texts_of
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.states import DeliveryState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, instances
from iscl_monai.service.web.site import Site

MOST_REASONS = 5
ORDER = (  # those that need a person first
    DeliveryState.FAILED,
    DeliveryState.WAITING,
    DeliveryState.SENT,
    DeliveryState.ASKED,
    DeliveryState.CONFIRMED,
)


@dataclass
class Destination:
    """Deliveries of a job to one peer.

    Args:
        name: of the peer.
        counts: by state.
        tries: the most that one of them has needed.
        proofs: how they were confirmed.
        reasons: what the peer answered, of those that are not confirmed.
    """

    name: str
    counts: dict[DeliveryState, int] = field(default_factory=dict)
    tries: int = 0
    proofs: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[tuple[DeliveryState, int]]:
        """States and counts, those that need a person first."""
        return [(state, self.counts[state]) for state in ORDER if state in self.counts]


def destinations(site: Site, job_id: int) -> list[Destination]:
    """Where the derived objects of a job go, and how far they are."""
    by = (deliveries.c.destination, deliveries.c.state, deliveries.c.reason, deliveries.c.proof)
    tries = func.max(deliveries.c.attempts + deliveries.c.refused).label("tries")
    grouped = select(*by, func.count(), tries).where(deliveries.c.job_id == job_id).group_by(*by)
    found: dict[str, Destination] = {}
    for name, state, reason, proof, count, most_tries in site.store.tuples(grouped.order_by(func.count().desc())):
        destination = found.setdefault(name, Destination(name))
        destination.counts[state] = destination.counts.get(state, 0) + count
        destination.tries = max(destination.tries, most_tries)
        confirmed = state == DeliveryState.CONFIRMED
        texts, text = (destination.proofs, proof) if confirmed else (destination.reasons, reason)
        if text and text not in texts and len(texts) < MOST_REASONS:
            texts.append(text)
    return [found[name] for name in sorted(found)]


def files_here(site: Site, series_id: int) -> int:
    """How many of its objects are on the disk."""
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    return int(site.store.values(select(func.count()).select_from(instances).where(here))[0])


def senders(site: Site, series_id: int) -> list[str]:
    """Who sent it."""
    distinct = select(instances.c.sender).where(instances.c.series_id == series_id).distinct()
    return sorted(site.store.values(distinct))


def viewer_url(site: Site, study_uid: str) -> str | None:
    """The study in the site's own viewer."""
    template = site.settings.web.viewer_url
    if not template or urlsplit(template).scheme not in ("http", "https"):
        return None
    return template.replace("{study_uid}", quote(study_uid, safe=""))


@dataclass(frozen=True)
class Equipment:
    """One of those that contributed to a derived object (ContributingEquipmentSequence).

    Args:
        name: manufacturer and model.
        software: versions.
        description: what it did.
        at: date and time, from the file.
    """

    name: str
    software: str
    description: str
    at: str


def equipment(site: Site, job: JobRow) -> list[Equipment]:
    """Equipment that contributed to what a job has made, from the first of its files; none when that is gone."""
    first = select(deliveries.c.file).where(deliveries.c.job_id == job.id).order_by(deliveries.c.id).limit(1)
    files = site.store.values(first) if job.folder else []
    dataset = _header(site.store, files[0], "ContributingEquipmentSequence") if files else None
    items = list(dataset.get("ContributingEquipmentSequence") or []) if dataset is not None else []
    return [
        Equipment(
            " ".join(filter(None, (text_of(item, "Manufacturer"), text_of(item, "ManufacturerModelName")))),
            ", ".join(texts_of(item, "SoftwareVersions")),
            text_of(item, "ContributionDescription"),
            text_of(item, "ContributionDateTime"),
        )
        for item in items
    ]


@dataclass(frozen=True)
class Patient:
    """Patient of a series, read from a file for one response; never kept.

    Args:
        name: PatientName, its components separated by commas.
        number: PatientID.
        birth_date: PatientBirthDate.
    """

    name: str
    number: str
    birth_date: str


def patient(site: Site, series_id: int) -> Patient | None:
    """Whose series it is; None when its files are gone."""
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    files = site.store.values(select(instances.c.file).where(here).order_by(instances.c.id).limit(1))
    tags = ("PatientName", "PatientID", "PatientBirthDate", "SpecificCharacterSet")
    dataset = _header(site.store, files[0], *tags) if files else None
    if dataset is None:
        return None
    name = ", ".join(filter(None, text_of(dataset, "PatientName").replace("=", "^").split("^")))
    born = text_of(dataset, "PatientBirthDate")
    if len(born) == 8 and born.isdigit():
        born = f"{born[:4]}-{born[4:6]}-{born[6:]}"
    return Patient(name, text_of(dataset, "PatientID"), born)


def _header(store: Store, file: str, *keywords: str) -> pydicom.Dataset | None:
    try:
        return pydicom.dcmread(store.data / file, stop_before_pixels=True, specific_tags=list(keywords))
    except Exception:  # removed at this moment, or damaged on the disk: pydicom raises nearly anything
        return None
