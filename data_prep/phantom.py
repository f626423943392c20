"""A small synthetic dataset, so that everything can be tried without patient data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.anatomy import draw_patient
from data_prep.dose import insert_noise
from iscl_monai.errors import ConfigRefusal

RECIPE = 2  # raise whenever the same parameters give other bytes
MANIFEST = "manifest.json"
DATALIST = "datalist.json"

DESCRIPTION = (
    "Synthetic CT made by `python -m data_prep phantom`: made-up patients, no human data. Noisy images are "
    "simulated low dose (noise insertion, parallel beam, Hann kernel). NIfTI int16 in HU; the array's axes "
    "are (column, row, slice): columns to the patient's left, rows to the back, slices to the head."
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
            standard deviation, as in :func:`data_prep.dose.insert_noise`).

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

    def __post_init__(self) -> None:
        counts = (self.slices, self.noisy, self.clean, self.validation, self.test)
        sizes = (self.spacing_mm, self.slice_mm, self.full_dose_noise_hu)
        if self.size < 32 or min(counts) < 1 or min(sizes) <= 0 or not 0 < self.fraction < 1:
            raise ConfigRefusal(
                f"phantom parameters {asdict(self)}",
                allowed="size >= 32, at least 1 of each kind, positive distances and noise, 0 < fraction < 1",
                cure="leave a parameter out to take its default",
            )

    def manifest(self) -> dict[str, Any]:
        """What is compared to tell whether a dataset is up to date."""
        return {"recipe": RECIPE, **asdict(self)}


def make_dataset(directory: Path, *, seed: int = 0, size: int = 192, **others: Any) -> Path:
    """Make the dataset, from the first patient to the datalist.

    Args:
        directory: folder to make; appears only when complete. A phantom dataset standing there is replaced.
        seed: decides patients and noise; the same seed gives the same bytes.
        size: rows and columns of a slice.
        **others: further fields of :class:`PhantomRecipe`.

    Returns:
        Path of the datalist: ``noisy`` and ``clean`` (lists of ``image``, ``patient``, ``dose``, ``kernel``;
        noisy ones also ``reference``, the same scan at full dose, for the supervised twin alone),
        ``validation`` and ``test`` (lists of ``noisy``, ``clean``, ``patient``), ``description``. Paths are
        relative to the datalist.

    Raises:
        ConfigRefusal: if a parameter makes no sense, or ``directory`` holds something else.
    """
    recipe = _recipe(seed=seed, size=size, **others)
    _refuse_foreign(directory)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        datalist = _fill(partial, recipe)
        _write_json(partial / DATALIST, datalist)
        _write_json(partial / MANIFEST, recipe.manifest())
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return directory / DATALIST


def ensure_dataset(directory: Path, *, seed: int = 0, size: int = 192, **others: Any) -> Path:
    """Make the dataset only when it is absent, or was made by another recipe or with other parameters.

    Args:
        directory: as for :func:`make_dataset`.
        seed: as for :func:`make_dataset`.
        size: as for :func:`make_dataset`.
        **others: as for :func:`make_dataset`.

    Returns:
        Path of the datalist.

    Raises:
        ConfigRefusal: as for :func:`make_dataset`.
    """
    recipe = _recipe(seed=seed, size=size, **others)
    if _manifest(directory) == recipe.manifest() and (directory / DATALIST).is_file():
        return directory / DATALIST
    return make_dataset(directory, seed=seed, size=size, **others)


def _fill(folder: Path, recipe: PhantomRecipe) -> dict[str, Any]:
    """Write all images; give the datalist."""
    roles = ["noisy"] * recipe.noisy + ["clean"] * recipe.clean
    roles += ["validation"] * recipe.validation + ["test"] * recipe.test
    datalist: dict[str, Any] = {"description": DESCRIPTION, **{role: [] for role in dict.fromkeys(roles)}}
    # disable=None: no bar where nobody looks (not a terminal).
    for index, role in enumerate(tqdm(roles, desc="phantom patients", unit=" patients", disable=None)):
        patient = f"P{index + 1:02d}"
        # Within each pool chests and abdomens alternate, so that no pool is known by its anatomy.
        region = "chest" if len(datalist[role]) % 2 == 0 else "abdomen"
        paths = {"clean": f"images/{patient}_clean.nii", "noisy": f"images/{patient}_noisy.nii"}
        clean_hu = _full_dose(patient, region, recipe)
        _save(folder / paths["clean"], clean_hu, recipe)
        if role != "clean":
            _save(folder / paths["noisy"], _low_dose(clean_hu, patient, recipe), recipe)
        if role in ("clean", "noisy"):
            dose = 1.0 if role == "clean" else recipe.fraction
            entry = {"image": paths[role], "patient": patient, "dose": dose, "kernel": "Hann"}
            datalist[role].append({**entry, "reference": paths["clean"]} if role == "noisy" else entry)
        else:
            datalist[role].append({**paths, "patient": patient})
    return datalist


def _full_dose(patient: str, region: str, recipe: PhantomRecipe) -> NDArray[np.float32]:
    """One patient at full dose, HU (slice, row, column)."""
    truth_hu = draw_patient(
        _rng(recipe.seed, patient),
        region=region,
        slices=recipe.slices,
        size=recipe.size,
        spacing_mm=recipe.spacing_mm,
        slice_mm=recipe.slice_mm,
    )
    # At half the dose as much noise is added as the scan had: it makes the truth a full-dose scan.
    return _with_noise(truth_hu, 0.5, f"full/{patient}", recipe)


def _low_dose(clean_hu: NDArray[np.float32], patient: str, recipe: PhantomRecipe) -> NDArray[np.float32]:
    """The same scan at the recipe's fraction of the dose."""
    return _with_noise(clean_hu, recipe.fraction, f"low/{patient}", recipe)


def _with_noise(hu: NDArray[np.float32], fraction: float, name: str, recipe: PhantomRecipe) -> NDArray[np.float32]:
    return insert_noise(
        hu,
        spacing_mm=recipe.spacing_mm,
        fraction=fraction,
        full_dose_noise_hu=recipe.full_dose_noise_hu,
        seed=recipe.seed,
        slice_ids=[f"{name}/{index}" for index in range(recipe.slices)],
    )


def _rng(seed: int, patient: str) -> np.random.Generator:
    """Random numbers that decide one patient, whatever the others are."""
    digest = hashlib.blake2b(f"{seed}|{patient}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _save(file: Path, hu: NDArray[np.float32], recipe: PhantomRecipe) -> None:
    """Write NIfTI, uncompressed (gzip would write the time of day into its header)."""
    file.parent.mkdir(exist_ok=True)
    # NIfTI's x and y run to the patient's right and front; columns and rows run to the left and back.
    affine = np.diag([-recipe.spacing_mm, -recipe.spacing_mm, recipe.slice_mm, 1.0])
    affine[:2, 3] = recipe.spacing_mm * (recipe.size - 1) / 2
    stored = np.rint(hu).clip(-1024, 3071).astype(np.int16).transpose(2, 1, 0)
    image = nibabel.Nifti1Image(stored, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nibabel.save(image, file)


def _recipe(**parameters: Any) -> PhantomRecipe:
    """Refuse a misspelt parameter by name."""
    known = PhantomRecipe.__dataclass_fields__
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigRefusal(
            f"phantom parameters {', '.join(unknown)}", allowed=", ".join(known), cure="correct the spelling"
        )
    return PhantomRecipe(**parameters)


def _manifest(directory: Path) -> Any:
    """What the manifest says, or None."""
    try:
        return json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _refuse_foreign(directory: Path) -> None:
    """Never remove what this module did not make."""
    if directory.exists() and not _manifest(directory) and (directory.is_file() or any(directory.iterdir())):
        raise ConfigRefusal(
            f"{directory} exists and is no phantom dataset",
            allowed="a new folder, an empty one, or a phantom dataset to replace",
            cure="give another folder",
        )


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
