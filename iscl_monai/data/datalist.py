"""Which scans feed which side: the datalist, its schema and its leak check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from iscl_monai.data.datalist_file import (
    OF_STACKS,
    SECTIONS,
    absolute,
    distance_nm,
    entries_of,
    read_content,
    split_protocol_of,
)
from iscl_monai.data.identity import TRAINED_ON, by_content, digest_of, first_copy, identity_of
from iscl_monai.data.scan import Entry, PoolScan, ScanPair
from iscl_monai.data.splits import check_roles
from iscl_monai.domain import CT, Domain
from iscl_monai.errors import DatalistRefusal, LeakRefusal

MINIMUM_GAP_MM = CT.extent.least_gap
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Datalist:
    """The scans of a training: two unpaired pools, and pairs to validate and test on (possibly none).

    In the file, ``{"noisy": [...], "clean": [...], "validation": [...], "test": [...]}``, paths relative to
    it; and maybe ``"split_protocol": "ldct-bench"``, the published split (:mod:`iscl_monai.data.splits`) it follows.
    ``folder`` is where the file lies.

    Of micrographs also ``"number_nm"``, the distance of sections whose numbers differ by 1, and ``"least_gap_nm"``, how
    far sections of two roles are apart at least; without it :attr:`iscl_monai.domain.Extent.least_gap` is asked for.
    """

    noisy: tuple[PoolScan, ...]
    clean: tuple[PoolScan, ...]
    validation: tuple[ScanPair, ...] = ()
    test: tuple[ScanPair, ...] = ()
    split_protocol: str = ""
    folder: Path = Path()
    domain: Domain = CT
    number_nm: float | None = None
    least_gap_nm: float | None = None

    @classmethod
    def load(cls, path: Path | str, domain: Domain = CT) -> Datalist:
        """Read and check a datalist, leaks included.

        Args:
            path: the JSON file, or the folder with a ``datalist.json`` in it.
            domain: of the images.

        Raises:
            DatalistRefusal: naming entry, key, value and what is allowed.
            LeakRefusal: if anatomy stands on two sides, or a patient of the named split in another role.
        """
        path = Path(path)
        path = path / "datalist.json" if path.is_dir() else path
        content = read_content(path, domain)
        sections = {name: entries_of(path, name, rows, domain) for name, rows in content.items() if name in SECTIONS}
        for needed in ("noisy", "clean"):
            if not sections.get(needed):
                raise DatalistRefusal(
                    f"{path}: no scan in {needed!r}",
                    allowed="at least one scan in each of 'noisy' and 'clean'",
                    cure="add scans of other patients than those of the other pool",
                )
        named = split_protocol_of(path, content)
        scans: dict[str, Any] = {name: tuple(rows) for name, rows in sections.items()}
        scans |= {name: distance_nm(path, name, content[name]) for name in OF_STACKS if name in content}
        datalist = cls(**scans, split_protocol=named, folder=absolute(path.parent), domain=domain)
        check_leaks(datalist)
        if named:
            check_roles(named, {name: [entry.patient for entry in rows] for name, rows in sections.items()})
        return datalist

    @cached_property
    def identity(self) -> dict[str, list[dict[str, Any]]]:
        """What a run on these scans depends on, content of the files included, as it was when first asked for.

        See :func:`iscl_monai.data.identity.identity_of`.

        Raises:
            LeakRefusal: two sections have the same files for two patients.
        """
        found = identity_of({section: getattr(self, section) for section in TRAINED_ON}, folder=self.folder)
        if copied := first_copy(by_content(found)):
            raise LeakRefusal(
                f"{copied}, byte for byte",
                allowed="scans of other patients in each section",
                cure="give both the same patient, or take one out",
            )
        return found

    @property
    def digest(self) -> str:
        """Tells these scans from all others, in 16 hexadecimal digits."""
        return digest_of(self.identity)


def check_leaks(datalist: Datalist) -> None:
    """Refuse a datalist that shows the same anatomy on two sides.

    Noisy pool, clean pool and validation may share a patient only in parts that are far enough from each other, of CT
    at least 15 mm; test shares no patient with anything, but for sections of one stack. The truth of a pair is no scan
    of another side, whatever the patients are called.

    Raises:
        LeakRefusal: naming the patient and both places.
    """
    sides: dict[str, Sequence[Entry]] = {name: getattr(datalist, name) for name in SECTIONS}
    names = list(sides)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            for a in sides[one]:
                for b in sides[other]:
                    _check_apart(datalist, one, a, other, b)
                    _check_no_truth(one, a, other, b)


def _check_apart(datalist: Datalist, one: str, a: Entry, other: str, b: Entry) -> None:
    if a.patient != b.patient:
        return
    extent = datalist.domain.extent
    if other == "test" and extent.test_is_of_others:
        raise LeakRefusal(
            f"test patient {a.patient!r} is also in {one!r}",
            allowed="test patients that nothing else has seen",
            cure=f"take {a.patient!r} out of one of the two",
        )
    first, second = (getattr(entry, extent.key) for entry in (a, b))
    least_gap = datalist.least_gap_nm or extent.least_gap
    if first is None or second is None or extent.gap(first, second, _step(datalist)) < least_gap * (1 - ROUNDING):
        raise LeakRefusal(
            f"patient {a.patient!r} is in {one!r} ({extent.words(first)}) and in {other!r} ({extent.words(second)})",
            allowed=f"other patients, or {extent.parts} at least {least_gap:g} {extent.unit} apart",
            cure=f"move the patient to one side, or give both entries a {extent.key}",
        )


def _step(datalist: Datalist) -> float:
    """Distance of successive numbers of sections; of z-ranges nothing is counted."""
    if datalist.domain.extent.key == "sections" and datalist.number_nm is None:
        raise DatalistRefusal(
            f"{datalist.folder}: sections of one specimen in two roles, and no number_nm",
            allowed="the distance of sections whose numbers differ by 1, in nm",
            cure="add it, or make the datalist by python -m data_prep split-stack",
        )
    return datalist.number_nm or 1.0


def _check_no_truth(one: str, a: Entry, other: str, b: Entry) -> None:
    """Names may be wrong: the file that a pair is judged by must not be one that another side shows."""
    for (side, entry), (elsewhere, shown) in (((one, a), (other, b)), ((other, b), (one, a))):
        truth = entry.truth if isinstance(entry, ScanPair) else None
        if truth is not None and truth in _images(shown):
            raise LeakRefusal(
                f"{truth} is the truth of {entry.patient!r} in {side!r} and a scan of {shown.patient!r} in "
                f"{elsewhere!r}",
                allowed="a truth that no other side shows",
                cure="take the scan out of one of the two",
            )


def _images(entry: Entry) -> tuple[Path | None, ...]:
    if isinstance(entry, ScanPair):
        return entry.noisy, entry.clean, entry.truth
    return entry.image, entry.reference
