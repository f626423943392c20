"""What the page of a series tells beyond its rows: read from files, or counted, when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import pydicom
from sqlalchemy import func, select

from iscl_monai.dicom.headers import text_of, texts_of
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, instances
from iscl_monai.service.web.site import Site

MOST_REASONS = 5
ORDER = ("failed", "waiting", "sent", "asked", "confirmed")


@dataclass
class Destination:
    """Deliveries of a job to one peer.

    Args:
        name: of the peer.
        counts: by state.
        tries: the most that one of them has needed.
        proofs: how they were confirmed.
        reasons: what the peer said, of those that are not confirmed.
    """

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    tries: int = 0
    proofs: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[tuple[str, int]]:
        """States and counts, those that need a person first."""
        return [(state, self.counts[state]) for state in ORDER if state in self.counts]


def destinations(site: Site, job_id: int) -> list[Destination]:
    """Where the derived objects of a job go, and how far they are."""
    by = (deliveries.c.destination, deliveries.c.state, deliveries.c.reason, deliveries.c.proof)
    tries = func.max(deliveries.c.attempts + deliveries.c.refused).label("tries")
    wanted = select(*by, func.count().label("count"), tries).where(deliveries.c.job_id == job_id).group_by(*by)
    found: dict[str, Destination] = {}
    for row in site.store.rows(wanted.order_by(func.count().desc())):
        one = found.setdefault(row["destination"], Destination(row["destination"]))
        one.counts[row["state"]] = one.counts.get(row["state"], 0) + row["count"]
        one.tries = max(one.tries, row["tries"])
        said = one.proofs if row["state"] == "confirmed" else one.reasons
        text = row["proof"] if row["state"] == "confirmed" else row["reason"]
        if text and text not in said and len(said) < MOST_REASONS:
            said.append(text)
    return [found[name] for name in sorted(found)]


def files_here(site: Site, series_id: int) -> int:
    """How many of its objects are on the disk."""
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    return int(site.store.rows(select(func.count().label("count")).where(here))[0]["count"])


def senders(site: Site, series_id: int) -> list[str]:
    """Who sent it."""
    wanted = select(instances.c.sender).where(instances.c.series_id == series_id).distinct()
    return sorted(row["sender"] for row in site.store.rows(wanted))


def viewer_url(site: Site, study_uid: str) -> str | None:
    """The study in the site's own viewer."""
    told = site.settings.web.viewer_url
    if not told or urlsplit(told).scheme not in ("http", "https"):
        return None
    return told.replace("{study_uid}", quote(study_uid, safe=""))


@dataclass(frozen=True)
class Equipment:
    """One of those that contributed to a derived object (ContributingEquipmentSequence).

    Args:
        name: manufacturer and model.
        software: versions.
        description: what it did.
        at: when, as the file says.
    """

    name: str
    software: str
    description: str
    at: str


def equipment(site: Site, job: Mapping[str, Any]) -> list[Equipment]:
    """Who contributed to what a job has made, from the first of its files; nobody when that is gone."""
    wanted = select(deliveries.c.file).where(deliveries.c.job_id == job["id"]).order_by(deliveries.c.id).limit(1)
    named = site.store.rows(wanted) if job["folder"] else []
    dataset = _header(site.store, named[0]["file"], "ContributingEquipmentSequence") if named else None
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
    """Of a file, for one answer; never kept.

    Args:
        name: PatientName, its parts set apart by commas.
        number: PatientID.
        birth_date: PatientBirthDate.
    """

    name: str
    number: str
    birth_date: str


def patient(site: Site, series_id: int) -> Patient | None:
    """Whose series it is; None when its files are gone."""
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    named = site.store.rows(select(instances.c.file).where(here).order_by(instances.c.id).limit(1))
    tags = ("PatientName", "PatientID", "PatientBirthDate", "SpecificCharacterSet")
    dataset = _header(site.store, named[0]["file"], *tags) if named else None
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
