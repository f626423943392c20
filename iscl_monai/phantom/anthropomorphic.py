"""A small dataset of made-up patients, so that everything can be tried without patient data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from iscl_monai.errors import ConfigRefusal
from iscl_monai.phantom.anatomy import Patient, draw_patient
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.parts import Writer, make_parts, read_manifest, refuse_foreign, write_json, write_volume
from iscl_monai.phantom.series import SyntheticScan, write_series
from iscl_monai.quality.protocol import TRUTH_RANDOM_ANATOMY
from iscl_monai.scanner.dose import SIMULATOR, insert_noise, scanner_for
from iscl_monai.scanner.streams import noise_source
from iscl_monai.scanner.virtual import VirtualScanner

RECIPE = 4  # raise whenever the same parameters give other bytes
DATALIST = "datalist.json"
KERNEL = "Hann"
SCANNER_RANGE_HU = (-1024, 3071)
"""What most scanners write; below lies only the noise of air."""

DESCRIPTION = (
    "Synthetic CT made by `python -m data_prep phantom`: made-up patients, no human data. DICOM series at full "
    "and at simulated low dose; patients/*/truth holds each patient without noise (truth.nii, HU) and what was "
    "put in (truth.json, lesions.nii)."
)


@dataclass(frozen=True, kw_only=True)
class PhantomRecipe:
    """All that decides the dataset's bytes.

    Args:
        seed: decides patients and noise.
        size: rows and columns of a slice.
        slices: slices per patient.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
        noisy: patients of the noisy pool.
        clean: patients of the clean pool, others than the noisy ones.
        validation: patients with a pair for validation.
        test: patients with a pair for the test.
        fraction: dose of the noisy images over that of the clean ones.
        full_dose_noise_hu: noise of the clean images where soft tissue is quiet (10th percentile of the
            standard deviation, as in :func:`iscl_monai.scanner.dose.insert_noise`).
        lesions: of low contrast in each patient, where there is room.

    Raises:
        ConfigRefusal: if a number makes no sense.
    """

    seed: int = 0
    size: int = 192
    slices: int = 8
    spacing_mm: float = 1.8
    slice_mm: float = 5.0
    noisy: int = 6
    clean: int = 6
    validation: int = 2
    test: int = 2
    fraction: float = 0.1
    full_dose_noise_hu: float = 12.0
    lesions: int = 8

    def __post_init__(self) -> None:
        counts = (self.slices, self.noisy, self.clean, self.validation, self.test)
        sizes = (self.spacing_mm, self.slice_mm, self.full_dose_noise_hu)
        fits = self.size >= 32 and min(counts) >= 1 and 0 <= self.lesions <= 255
        if not fits or min(sizes) <= 0 or not 0 < self.fraction < 1:
            raise ConfigRefusal(
                f"phantom parameters {asdict(self)}",
                allowed="size >= 32, at least 1 of each kind, 0 to 255 lesions, positive distances and noise, "
                "0 < fraction < 1",
                cure="leave a parameter out to take its default",
            )

    def manifest(self) -> dict[str, Any]:
        """What is compared to tell whether a dataset is up to date."""
        return {"kind": "anthropomorphic", "recipe": RECIPE, "simulator": SIMULATOR, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One made-up patient's place in the dataset."""

    name: str
    role: str
    region: str


def make_dataset(directory: Path, *, seed: int = 0, size: int = 192, **others: Any) -> Path:
    """Make the dataset, from the first patient to the datalist, or complete one that was interrupted.

    Args:
        directory: folder to make. A phantom dataset of other parameters standing there is replaced; patients
            of the same parameters are kept.
        seed: decides patients and noise; the same seed gives the same bytes.
        size: rows and columns of a slice.
        **others: further fields of :class:`PhantomRecipe`.

    Returns:
        Path of the datalist, written last: ``noisy`` and ``clean`` (lists of ``image``, ``patient``, ``dose``,
        ``kernel``; noisy ones also ``reference``, the same scan at full dose, for the supervised twin alone),
        ``validation`` and ``test`` (lists of ``noisy``, ``clean``, ``patient``, ``dose``, ``truth``),
        ``description``. Paths are relative to the datalist; scans are folders with one DICOM series each, the truth is
        a NIfTI file.

    Raises:
        ConfigRefusal: if a parameter makes no sense, or ``directory`` holds something else.
        OutputRefusal: if it cannot be written.
    """
    recipe = _recipe(seed=seed, size=size, **others)
    members = list(_members(recipe))
    return make_parts(
        directory,
        recipe.manifest(),
        {f"patients/{member.name}": partial(_make_patient, member, recipe) for member in members},
        last=(DATALIST, _datalist(members, recipe)),
        unit="patients",
    )


def ensure_dataset(directory: Path, *, seed: int = 0, size: int = 192, **others: Any) -> Path:
    """Make the dataset only when it is absent, incomplete, or was made by another recipe or with other parameters.

    Args:
        directory: as for :func:`make_dataset`.
        seed: as for :func:`make_dataset`.
        size: as for :func:`make_dataset`.
        **others: as for :func:`make_dataset`.

    Returns:
        Path of the datalist.

    Raises:
        ConfigRefusal: as for :func:`make_dataset`.
        OutputRefusal: as for :func:`make_dataset`.
    """
    recipe = _recipe(seed=seed, size=size, **others)
    refuse_foreign(directory)
    if read_manifest(directory) == recipe.manifest() and (directory / DATALIST).is_file():
        return directory / DATALIST
    return make_dataset(directory, seed=seed, size=size, **others)


def _recipe(**parameters: Any) -> PhantomRecipe:
    """Refuse a misspelt parameter by name."""
    known = PhantomRecipe.__dataclass_fields__
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigRefusal(
            f"phantom parameters {', '.join(unknown)}", allowed=", ".join(known), cure="correct the spelling"
        )
    return PhantomRecipe(**parameters)


def _members(recipe: PhantomRecipe) -> Iterator[Member]:
    """All patients; in each pool chests and abdomens alternate, so that no pool is known by its anatomy."""
    number = 0
    for role in ("noisy", "clean", "validation", "test"):
        for index in range(getattr(recipe, role)):
            number += 1
            yield Member(name=f"P{number:02d}", role=role, region=("chest", "abdomen")[index % 2])


def _datalist(members: list[Member], recipe: PhantomRecipe) -> dict[str, Any]:
    """Who is on which side."""
    datalist: dict[str, Any] = {"description": DESCRIPTION, "noisy": [], "clean": [], "validation": [], "test": []}
    for member in members:
        full, low = (f"patients/{member.name}/{dose}" for dose in ("full", "low"))
        entry: dict[str, Any] = {
            "noisy": low,
            "clean": full,
            "patient": member.name,
            "dose": recipe.fraction,
            "truth": f"patients/{member.name}/truth/truth.nii",
            "truth_protocol": TRUTH_RANDOM_ANATOMY.name,
        }
        if member.role == "clean":
            entry = {"image": full, "patient": member.name, "dose": 1.0, "kernel": KERNEL}
        elif member.role == "noisy":
            entry = {"image": low, "patient": member.name, "dose": recipe.fraction, "kernel": KERNEL, "reference": full}
        datalist[member.role].append(entry)
    return datalist


def _make_patient(member: Member, recipe: PhantomRecipe) -> Writer:
    """Draw and scan one patient: at full dose, and, but in the clean pool, at low dose."""
    patient = _drawn(member, recipe)
    scanner = scanner_for(patient.truth_hu, spacing_mm=recipe.spacing_mm, full_dose_noise_hu=recipe.full_dose_noise_hu)
    scans_hu = {1.0: _full_dose(patient.truth_hu, member, recipe, scanner)}
    if member.role != "clean":
        scans_hu[recipe.fraction] = _low_dose(scans_hu[1.0], member, recipe, scanner)

    def write(folder: Path) -> None:
        _write_truth(folder / "truth", patient, member, recipe)
        for dose, hu in scans_hu.items():
            write_series(
                folder / ("full" if dose == 1 else "low"), hu.clip(*SCANNER_RANGE_HU), _scan(member, recipe, dose)
            )

    return write


def _drawn(member: Member, recipe: PhantomRecipe) -> Patient:
    return draw_patient(
        _rng(recipe.seed, member.name),
        region=member.region,
        slices=recipe.slices,
        size=recipe.size,
        spacing_mm=recipe.spacing_mm,
        slice_mm=recipe.slice_mm,
        lesions=recipe.lesions,
    )


def _full_dose(truth_hu: Floats, member: Member, recipe: PhantomRecipe, scanner: VirtualScanner) -> Floats:
    """The truth with the noise of a scan at full dose."""
    names = [f"full/{member.name}/{index}" for index in range(recipe.slices)]
    noise = [
        scanner.own_noise(plane, noise_source(recipe.seed, 1, name))
        for plane, name in zip(truth_hu, names, strict=True)
    ]
    return truth_hu + np.stack(noise)


def _low_dose(scan_hu: Floats, member: Member, recipe: PhantomRecipe, scanner: VirtualScanner) -> Floats:
    """The same scan at the recipe's fraction of the dose."""
    return insert_noise(
        scan_hu,
        spacing_mm=recipe.spacing_mm,
        fraction=recipe.fraction,
        scanner=scanner,
        seed=recipe.seed,
        slice_ids=[f"low/{member.name}/{index}" for index in range(recipe.slices)],
    )


def _rng(seed: int, patient: str) -> np.random.Generator:
    """Random numbers that decide one patient, whatever the others are."""
    digest = hashlib.blake2b(f"{seed}|{patient}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _scan(member: Member, recipe: PhantomRecipe, dose: float) -> SyntheticScan:
    return SyntheticScan(
        subject=member.name,
        part=member.region.upper(),
        title=member.region,
        dose=dose,
        number=1 if dose == 1 else 2,
        kernel=KERNEL,
        spacing_mm=recipe.spacing_mm,
        slice_mm=recipe.slice_mm,
        identity=json.dumps(recipe.manifest()),
    )


def _write_truth(folder: Path, patient: Patient, member: Member, recipe: PhantomRecipe) -> None:
    """The patient without noise, and the lesions."""
    folder.mkdir()
    steps = {"spacing_mm": recipe.spacing_mm, "slice_mm": recipe.slice_mm}
    write_volume(folder / "truth.nii", patient.truth_hu, **steps)
    write_volume(folder / "lesions.nii", patient.lesion_mask, **steps)
    story = {"patient": member.name, "region": member.region, "seed": recipe.seed, **steps}
    write_json(folder / "truth.json", {**story, "lesions": [lesion.entry() for lesion in patient.lesions]})
