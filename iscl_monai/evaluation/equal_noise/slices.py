"""The slices that methods are compared on at equal noise, with their noise known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from iscl_monai.quality.inserted import Image, Inserted, places_for, soft_tissue_of

RADII_PX = (2.0, 4.0, 8.0)
CONTRASTS_HU = (10.0, 20.0, 50.0)
LESIONS_OF_EACH_RADIUS = 6
ROD_RADIUS_PX, RODS = 5.0, 4
MOST_SLICES = 4
"""Of each patient, evenly spaced: enough for means, and a slow method may take its time on them."""
FEWEST_TISSUE_PX = 2000
NOISES = 4
"""Neighbouring slices whose noise is put on a slice, with both signs, for the observer."""
ROOM_PX = 26


@dataclass(frozen=True, kw_only=True, eq=False)
class TestSlice:
    """One slice.

    Args:
        patient: who it is.
        number: of the slice in its scan.
        group: name of the truth's protocol; empty: the scene is a scan's reference with noise of its own.
        scene_hu: HU (row, column) of what is looked at, without the noise that is known.
        noise_hu: that the noisy slice has on top of it.
        second_noise_hu: another realisation of it, of a slice near by.
        spacing_mm: between rows, between columns.
        tissue: soft tissue of the scene.
        lesions: put into it.
        rods: put into it, for sharpness.
        other_noises_hu: realisations of the noise, for the observer; none where there is no truth.
    """

    patient: str
    number: int
    group: str
    scene_hu: Image
    noise_hu: Image
    second_noise_hu: Image
    spacing_mm: tuple[float, float]
    tissue: NDArray[np.bool_] = field(repr=False)
    lesions: Sequence[Inserted]
    rods: Sequence[Inserted]
    other_noises_hu: Sequence[Image] = ()

    __test__ = False  # for pytest, which takes it for a test

    @property
    def has_truth(self) -> bool:
        """Whether the scene is free of noise."""
        return bool(self.group)

    def digest(self) -> str:
        """Tells it from any other, down to its voxels."""
        found = hashlib.sha256(f"{self.patient}|{self.number}|{self.group}|{self.lesions}|{self.rods}".encode())
        for image in (self.scene_hu, self.noise_hu, self.second_noise_hu, *self.other_noises_hu):
            found.update(np.ascontiguousarray(image).data)
        return found.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyScan:
    """A scan whose noise is known: HU (slice, row, column) each.

    Args:
        patient: who it is.
        group: as of :class:`TestSlice`.
        noisy_hu: with the noise.
        scene_hu: without it.
        spacing_mm: between rows, between columns.
    """

    patient: str
    group: str
    noisy_hu: NDArray[np.float32]
    scene_hu: NDArray[np.float32]
    spacing_mm: tuple[float, float]


def slices_of(scans: Iterable[NoisyScan]) -> list[TestSlice]:
    """At most four slices of each patient, evenly spaced among those with soft tissue; the middle one is observed.

    Args:
        scans: a patient may have several; their slices count together.
    """
    patients: dict[tuple[str, str], list[tuple[NoisyScan, int]]] = {}
    for scan in scans:
        found = patients.setdefault((scan.group, scan.patient), [])
        found += [(scan, index) for index in range(len(scan.scene_hu)) if _has_tissue(scan.scene_hu[index])]
    chosen = []
    for slices in patients.values():
        count = min(MOST_SLICES, len(slices))
        picked = [slices[int((part + 0.5) * len(slices) / count)] for part in range(count)]
        middle = count // 2
        chosen += [_test_slice(scan, index, observed=at == middle) for at, (scan, index) in enumerate(picked)]
    return chosen


def _has_tissue(scene_hu: Image) -> bool:
    return int(soft_tissue_of(scene_hu).sum()) >= FEWEST_TISSUE_PX


def _test_slice(scan: NoisyScan, index: int, *, observed: bool) -> TestSlice:
    scene_hu = scan.scene_hu[index]
    tissue = soft_tissue_of(scene_hu)
    seed = int.from_bytes(hashlib.sha256(f"{scan.patient}|{index}".encode()).digest()[:4], "little")
    noises = scan.noisy_hu - scan.scene_hu if observed and scan.group else scan.noisy_hu[:0]
    near = sorted(range(len(noises)), key=lambda at: abs(at - index))[:NOISES]
    return TestSlice(
        patient=scan.patient,
        number=index,
        group=scan.group,
        scene_hu=scene_hu,
        noise_hu=scan.noisy_hu[index] - scene_hu,
        second_noise_hu=_second_noise(scan, index),
        spacing_mm=scan.spacing_mm,
        tissue=tissue,
        lesions=places_for(tissue, RADII_PX, most=LESIONS_OF_EACH_RADIUS, seed=seed, clear_px=ROOM_PX),
        rods=places_for(tissue, [ROD_RADIUS_PX], most=RODS, seed=seed + 1, clear_px=ROOM_PX),
        other_noises_hu=[noises[at] for at in near],
    )


def _second_noise(scan: NoisyScan, index: int) -> Image:
    """Of the nearest slice that is no direct neighbour, which may share noise; of thin scans their own, mirrored."""
    apart = [at for at in range(len(scan.scene_hu)) if abs(at - index) > 1]
    if not apart:
        mirrored: Image = (scan.noisy_hu[index] - scan.scene_hu[index])[:, ::-1]
        return mirrored
    nearest = min(apart, key=lambda at: abs(at - index))
    noise: Image = scan.noisy_hu[nearest] - scan.scene_hu[nearest]
    return noise
