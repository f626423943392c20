"""``mayo`` from the folder of the collection to the datalist."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.mayo.tree import Scans, check_complete, find_scans
from data_prep.split.write import write_datalist
from iscl_monai.data.splits import DOSES, Protocol, load_protocol, refuse_collisions, region_of
from iscl_monai.errors import ConfigRefusal, DatalistRefusal

COLLECTION = "TCIA LDCT-and-Projection-data, doi 10.7937/9NPB-2637"
VALIDATION_PER_REGION = 2


@dataclass(frozen=True, kw_only=True)
class MayoRequest:
    """What is asked for.

    Args:
        protocol: name of a published split.
        regions: keep these; empty: all that the split has.
        seed: decides which training patients feed which pool.
        validation_per_region: training patients per region to validate on, for a split that names none; None: 2.
        trained_on: the split of the weights that the test shall score; empty: weights yet to be trained.
        allow_missing: go on without patients that are not there.
    """

    protocol: str
    regions: tuple[str, ...] = ()
    seed: int = 0
    validation_per_region: int | None = None
    trained_on: str = ""
    allow_missing: bool = False


@dataclass(frozen=True)
class MayoSplit:
    """Who feeds which section.

    Attributes:
        sections: section of the datalist -> patients, sorted.
        scans: by patient.
        missing: patients that are not there -> why.
    """

    sections: Mapping[str, tuple[str, ...]]
    scans: Mapping[str, Scans]
    missing: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Region -> section -> patients and slices."""
        regions = sorted({region_of(name) for names in self.sections.values() for name in names})
        return {region: {name: self._count(region, name) for name in self.sections} for region in regions}

    def _count(self, region: str, section: str) -> tuple[int, int]:
        slices = [self.scans[name].slices for name in self.sections[section] if region_of(name) == region]
        return len(slices), sum(slices)


def make_mayo(root: Path, destination: Path, request: MayoRequest) -> tuple[Path, MayoSplit]:
    """Write the datalist of a published split.

    Half of the training patients of each region feed the noisy pool with their low-dose images (and their full-dose
    ones as ``reference``), the others the clean pool with their full-dose images. Validation and test are pairs.

    Args:
        root: folder of the collection, with one folder per patient.
        destination: folder for ``datalist.json``.
        request: what is asked for.

    Returns:
        The datalist, and who is in it.

    Raises:
        ConfigRefusal: an unknown protocol or region.
        LeakRefusal: when the test holds patients that the weights to be scored have seen.
        DatalistRefusal: when patients are missing or contradict themselves.
        OutputRefusal: when another datalist stands there.
    """
    root, destination = Path(os.path.abspath(root)), Path(os.path.abspath(destination))
    protocol = load_protocol(request.protocol)
    regions = _regions(protocol, request)
    listed = {name: _of(getattr(protocol, name), regions) for name in ("train", "validation", "test")}
    if request.trained_on:
        refuse_collisions(request.trained_on, listed["test"])
    scans, missing = find_scans(root, [name for names in listed.values() for name in names])
    check_complete(root, scans, missing, allow_missing=request.allow_missing)
    present = {name: tuple(patient for patient in names if patient in scans) for name, names in listed.items()}
    sections = _sections(protocol, regions, present, request)
    for pool in ("noisy", "clean"):
        if not sections[pool]:
            raise DatalistRefusal(
                f"{root} leaves no training patient for {pool!r}",
                allowed="two or more training patients of the split",
                cure="download more, or give a smaller --validation",
            )
    split = MayoSplit(sections, scans, missing)
    return write_datalist(_content(split, protocol, regions, request), destination), split


def _regions(protocol: Protocol, request: MayoRequest) -> tuple[str, ...]:
    known = protocol.regions()
    for region in request.regions:
        if region not in known:
            raise ConfigRefusal(
                f"region {region!r} of {protocol.name}", allowed=", ".join(known), cure="give one of them"
            )
    return tuple(region for region in known if region in (request.regions or known))


def _of(patients: tuple[str, ...], regions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in patients if region_of(name) in regions)


def _sections(
    protocol: Protocol, regions: tuple[str, ...], present: Mapping[str, tuple[str, ...]], request: MayoRequest
) -> dict[str, tuple[str, ...]]:
    """Halve the training patients of each region, by lot."""
    own = request.validation_per_region
    if own is not None and (protocol.validation or own < 0):
        raise ConfigRefusal(
            f"--validation {own} with {protocol.name}",
            allowed="0 or more, for a split that names no validation patients",
            cure="leave it out",
        )
    held_out = 0 if protocol.validation else VALIDATION_PER_REGION if own is None else own
    chosen: dict[str, list[str]] = {"noisy": [], "clean": [], "validation": list(present["validation"])}
    pools = ("noisy", "clean")
    for region in regions:
        patients = sorted(_of(present["train"], (region,)), key=lambda name: _lot(request.seed, name))
        chosen["validation"] += patients[:held_out]
        for patient in patients[held_out:]:
            # On from region to region: an odd one out goes to the pool that the last one left behind.
            chosen[pools[(len(chosen["noisy"]) + len(chosen["clean"])) % 2]].append(patient)
    return {**{name: tuple(sorted(names)) for name, names in chosen.items()}, "test": tuple(sorted(present["test"]))}


def _lot(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}\0{patient}".encode()).hexdigest()


def _content(split: MayoSplit, protocol: Protocol, regions: tuple[str, ...], request: MayoRequest) -> dict[str, Any]:
    lacking = f", without {' '.join(split.missing)}" if split.missing else ""
    description = (
        f"protocol={protocol.name} regions={','.join(regions)} seed={request.seed}: {COLLECTION}; split of "
        f"{protocol.source}, doi {protocol.doi}{lacking}"
    )
    return {
        "description": description,
        "split_protocol": protocol.name,
        "noisy": [_noisy(split.scans[name]) for name in split.sections["noisy"]],
        "clean": [_clean(split.scans[name]) for name in split.sections["clean"]],
        "validation": [_pair(split.scans[name]) for name in split.sections["validation"]],
        "test": [_pair(split.scans[name]) for name in split.sections["test"]],
    }


def _noisy(scans: Scans) -> dict[str, Any]:
    dose = DOSES[region_of(scans.patient)]
    return _scan(scans.low, scans, dose) | {"reference": str(scans.full.absolute())}


def _clean(scans: Scans) -> dict[str, Any]:
    return _scan(scans.full, scans, 1.0)


def _scan(image: Path, scans: Scans, dose: float) -> dict[str, Any]:
    kernel = {"kernel": scans.kernel} if scans.kernel else {}
    return {"image": str(image.absolute()), "patient": scans.patient, "dose": dose} | kernel


def _pair(scans: Scans) -> dict[str, Any]:
    return {"noisy": str(scans.low.absolute()), "clean": str(scans.full.absolute()), "patient": scans.patient}
