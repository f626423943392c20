"""What is evaluated: scans with a reference, one pair from two paths or all pairs of a datalist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.data import Datalist, ScanPair, pairs_of
from iscl_monai.errors import DatalistRefusal
from iscl_monai.evaluation.plausible import check_same_image, check_same_units
from iscl_monai.evaluation.scans import Scan, check_same_place, read_scan

Denoised = Callable[[ScanPair, Scan], NDArray[np.float32]]
"""What a method made of the noisy scan of a pair, HU (slice, row, column)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A denoised scan and its reference, at the same places.

    Args:
        name: as printed.
        patient: who it is; scans of one patient are averaged before patients are.
        denoised_hu: HU (slice, row, column).
        reference: a scan, with noise of its own, that stands for what is wanted.
        noisy: what was denoised; None only if it is not known.
        dose: of the noisy scan over that of the reference it was made from; None: not known.
        truth: the anatomy without noise; None: not known.
        truth_protocol: that errors against it are named by; empty without a truth.
    """

    name: str
    patient: str
    denoised_hu: NDArray[np.float32]
    reference: Scan
    noisy: Scan | None = None
    dose: float | None = None
    truth: Scan | None = None
    truth_protocol: str = ""

    @property
    def body_part(self) -> str:
        """BodyPartExamined of the reference, or of the noisy scan; empty when not said."""
        return self.reference.body_part or (self.noisy.body_part if self.noisy else "")


def read_pair(denoised: Path, reference: Path, noisy: Path | None = None, *, trust_hu: bool = False) -> Pair:
    """One pair from its files.

    Args:
        denoised: DICOM series or volume file.
        reference: likewise, at the same places.
        noisy: what was denoised, likewise.
        trust_hu: see :func:`iscl_monai.evaluation.scans.read_scan`.

    Raises:
        Refusal: whatever cannot be read, lies elsewhere, or is in another scale or another way round.
    """
    after, truth = (read_scan(path, trust_hu=trust_hu) for path in (denoised, reference))
    check_same_place(after, truth)
    check_same_image(after.hu, truth.hu, names=(denoised, reference))
    before = None
    if noisy is not None:
        before = read_scan(noisy, trust_hu=trust_hu)
        check_same_place(before, truth)
        check_same_image(before.hu, truth.hu, names=(noisy, reference))
    # The name of the folder that was given: the person who types it knows it, and nobody else is told more.
    return Pair(
        name=denoised.name,
        patient=denoised.name,
        denoised_hu=after.hu,
        reference=truth,
        noisy=before,
        dose=None if before is None else before.simulated_dose,
    )


def pairs_in(datalist: Datalist, section: str) -> Sequence[ScanPair]:
    """The pairs of ``validation`` or ``test``.

    Raises:
        ConfigRefusal: if there is no such section, or nothing in it.
        DatalistRefusal: if a noisy scan is its own reference, stands there twice, or belongs to two patients.
    """
    pairs_of(datalist, section)
    pairs = datalist.test if section == "test" else datalist.validation
    for index, pair in enumerate(pairs):
        if pair.clean.resolve() == pair.noisy.resolve() and _may_be_one(pair.noisy_series_uid, pair.clean_series_uid):
            raise DatalistRefusal(
                f"{section}[{index}]: {pair.noisy} is both noisy and clean",
                allowed="two scans, or two series of one folder, each with its series UID",
                cure="give the full-dose scan as clean",
            )
        if pair.truth is not None and pair.truth.resolve() in {pair.noisy.resolve(), pair.clean.resolve()}:
            raise DatalistRefusal(
                f"{section}[{index}]: {pair.truth} is both the truth and a scan of it",
                allowed="a truth without noise, from which noisy and clean were made",
                cure="leave truth out where only a reference is known",
            )
        for before, other in enumerate(pairs[:index]):
            _check_two_scans(f"{section}[{before}] and {section}[{index}]", other, pair)
    return pairs


def _check_two_scans(places: str, one: ScanPair, other: ScanPair) -> None:
    if one.noisy.resolve() != other.noisy.resolve() or not _may_be_one(one.noisy_series_uid, other.noisy_series_uid):
        return
    if one.patient != other.patient:
        raise DatalistRefusal(
            f"{places}: noisy scan {one.noisy} of patients {one.patient!r} and {other.patient!r}",
            allowed="one patient for each scan",
            cure="give both entries the name of the patient",
        )
    a, b = one.z_range_mm, other.z_range_mm
    if a is None or b is None or max(a[0], b[0]) <= min(a[1], b[1]):
        raise DatalistRefusal(
            f"{places}: noisy scan {one.noisy} is listed twice",
            allowed="each scan once, or with z-ranges that do not overlap",
            cure="take one of the two out: it would count double",
        )


def _may_be_one(series_uid: str | None, other_uid: str | None) -> bool:
    """Whether two entries of one path may mean one series: without a UID, it is whichever is there."""
    return series_uid is None or other_uid is None or series_uid == other_uid


def judged_by_reference(truths: Sequence[object | None]) -> list[bool]:
    """Whether each pair's reference stands for what is wanted: of those without a truth; of all, if each has a truth.

    The reference of a virtual patient shares no noise with the noisy scan: its figures are of another kind than those
    of a simulated dose, and not averaged with them.

    Args:
        truths: of each pair; None where it is not known.
    """
    all_known = all(truth is not None for truth in truths)
    return [truth is None or all_known for truth in truths]


def denoised_pairs(pairs: Sequence[ScanPair], denoised: Denoised, *, trust_hu: bool = False) -> Iterator[Pair]:
    """Read, denoise in memory, or read what was denoised, and hand out one pair after the other.

    Args:
        pairs: see :func:`pairs_in`.
        denoised: the method, or its results.
        trust_hu: see :func:`iscl_monai.evaluation.scans.read_scan`.

    Raises:
        Refusal: whatever cannot be read, or whose two scans are not of one place, scale and orientation.
    """
    counts: dict[str, int] = {}
    for pair in pairs:
        noisy, reference = (
            read_scan(path, series_uid=series_uid, z_range_mm=pair.z_range_mm, trust_hu=trust_hu)
            for path, series_uid in ((pair.noisy, pair.noisy_series_uid), (pair.clean, pair.clean_series_uid))
        )
        check_same_place(noisy, reference)
        check_same_image(noisy.hu, reference.hu, names=(pair.noisy, pair.clean))
        counts[pair.patient] = counts.get(pair.patient, 0) + 1
        name = pair.patient if counts[pair.patient] == 1 else f"{pair.patient}, scan {counts[pair.patient]}"
        yield Pair(
            name=name,
            patient=pair.patient,
            denoised_hu=denoised(pair, noisy),
            reference=reference,
            noisy=noisy,
            dose=None if pair.truth is not None else noisy.simulated_dose if pair.dose is None else pair.dose,
            truth=truth_of(pair, reference),
            truth_protocol=pair.truth_protocol or "",
        )


def truth_of(pair: ScanPair, reference: Scan) -> Scan | None:
    """The truth of a pair, at the places of its reference; None where it has none.

    Its reference vouches for its Hounsfield units: a truth of a made-up patient need not look like any patient, but
    must lie where its reference lies.

    Raises:
        Refusal: whatever cannot be read, or is not of the reference's place, units and orientation.
    """
    if pair.truth is None:
        return None
    truth = read_scan(pair.truth, series_uid=pair.truth_series_uid, z_range_mm=pair.z_range_mm, trust_hu=True)
    check_same_place(truth, reference)
    check_same_image(truth.hu, reference.hu, names=(pair.truth, pair.clean))
    check_same_units(truth.hu, reference.hu, names=(pair.truth, pair.clean))
    return truth


def middle_slice(volume: NDArray[Any]) -> NDArray[Any]:
    """A copy of the slice in the middle, (row, column), so that the volume can go."""
    return np.array(volume[len(volume) // 2])
