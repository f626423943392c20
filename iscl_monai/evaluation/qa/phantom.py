"""The test objects that are denoised: read from a folder that ``data_prep phantom --kind physics`` made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.nifti import NiftiVolume
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ConfigRefusal, Refusal
from iscl_monai.evaluation.qa.making import cache
from iscl_monai.phantom.parts import MANIFEST

OVERVIEW = "physics.json"
WATER, INSERTS, LOW_CONTRAST = "water", "inserts", "low_contrast"
ANATOMY = ("anatomy_chest", "anatomy_abdomen")
MODULES = (WATER, INSERTS, LOW_CONTRAST, *ANATOMY)
STACK = "stack"
FULL_DOSE = 1.0
FEWEST_REALISATIONS = 6
"""The observer of two channels learns from no fewer; what else is measured wants 5."""
Slice = npt.NDArray[np.float32]
Volume = npt.NDArray[np.float32]
Organs = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Module:
    """One test object.

    Args:
        name: of :data:`MODULES`.
        truth_hu: as the scanner shows it without noise, (row, column).
        plain_hu: the same without the signals that are to be found; the truth itself where there are none.
        organs: :class:`iscl_monai.phantom.canvas.Organ` of each pixel of anatomy; None elsewhere.
        facts: ``truth.json``.
        series: folder of each dose.
        realisations: how many are used; None: all.
    """

    name: str
    truth_hu: Slice
    plain_hu: Slice
    organs: Organs | None = None
    facts: Mapping[str, Any]
    series: Mapping[float, Path]
    realisations: int | None = None

    def scans_hu(self, dose: float) -> Volume:
        """Realisations of the noise, HU (realisation, row, column).

        Raises:
            ConfigRefusal: a slice is damaged or missing.
        """
        return _scans_hu(self.series[dose], int(self.facts["realisations"]))[: self.realisations]

    @property
    def signal_hu(self) -> Slice:
        """What the signals add, HU (row, column). Reconstruction is linear, so taking this off takes them out."""
        difference: Slice = self.truth_hu - self.plain_hu
        return difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Neighbouring slices of one patient, each scanned once at each dose, with rods that end among them.

    Args:
        truth_hu: as the scanner shows it without noise, (slice, row, column).
        facts: ``truth.json``.
        series: folder of each dose.
    """

    truth_hu: Volume
    facts: Mapping[str, Any]
    series: Mapping[float, Path]

    def scans_hu(self, dose: float) -> Volume:
        """HU (slice, row, column).

        Raises:
            ConfigRefusal: a slice is damaged or missing.
        """
        return _scans_hu(self.series[dose], len(self.truth_hu))


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """All test objects, each in realisations of the noise at several doses.

    Args:
        modules: by name.
        stack: neighbouring slices.
        seed: decided places, anatomy, lesions and noise.
        spacing_mm: distance of pixels.
        realisations: of each module and dose.
        doses: shares of the full dose, descending.
        photons: per ray in air at full dose.
    """

    modules: Mapping[str, Module]
    stack: Stack
    seed: int
    spacing_mm: float
    realisations: int
    doses: tuple[float, ...]
    photons: float
    regions: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)
    """Masks that were worked out, by what they are and the module: see :mod:`iscl_monai.evaluation.qa.regions`."""

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        return self.spacing_mm, self.spacing_mm

    @property
    def thorough(self) -> bool:
        """Whether there are images enough for every task; else a few stand for all."""
        return self.realisations >= 10


def read_phantom(
    folder: Path, doses: Sequence[float] | None = None, *, most_realisations: int | None = None
) -> Phantom:
    """Read what is there of it but the scans.

    Args:
        folder: holds ``physics.json``.
        doses: which; None: all. Full dose always comes with them.
        most_realisations: use no more than so many; None: all.

    Raises:
        ConfigRefusal: no such phantom there, an older or damaged one, too few realisations, or no such dose.
    """
    try:
        modules = json.loads((folder / OVERVIEW).read_text(encoding="utf-8"))["modules"]
        there = {float(entry["dose"]) for entry in modules[WATER]["series"]}
        objects = {name: _module(folder, name, modules[name], most_realisations) for name in MODULES}
        stack = _stack(folder, modules[STACK])
        seed = int(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["seed"])
    except Refusal as error:
        raise _damaged(folder, error.came) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (folder / OVERVIEW).exists() and isinstance(error, (OSError, json.JSONDecodeError)):
            raise _damaged(folder, f"{type(error).__name__} {error}") from error
        raise ConfigRefusal(
            f"{folder}: {type(error).__name__} {error}",
            allowed=f"test objects {', '.join((*MODULES, STACK))}",
            cure="leave --dataset out, or: python -m data_prep phantom FOLDER --kind physics",
        ) from error
    facts = objects[WATER].facts
    wanted = there if doses is None else {FULL_DOSE, *map(float, doses)}
    realisations = min(int(facts["realisations"]), most_realisations or int(facts["realisations"]))
    if not {FULL_DOSE, *wanted} <= there or realisations < FEWEST_REALISATIONS:
        raise ConfigRefusal(
            f"{folder}: doses {sorted(there)} with {realisations} realisations, wanted {sorted(wanted)}",
            allowed=f"those of the folder, full dose (1) among them, at least {FEWEST_REALISATIONS} realisations",
            cure="leave --dataset out, or make a phantom with more",
        )
    objects[LOW_CONTRAST] = replace(objects[LOW_CONTRAST], plain_hu=objects[WATER].truth_hu)
    return Phantom(
        modules=objects,
        stack=stack,
        seed=seed,
        spacing_mm=float(facts["spacing_mm"]),
        realisations=realisations,
        doses=tuple(sorted(wanted, reverse=True)),
        photons=float(facts["photons"]),
    )


def _scans_hu(folder: Path, count: int) -> Volume:
    try:
        scans_hu = read_series(folder).hu
    except Refusal as error:
        raise _damaged(folder.parents[1], error.came) from error
    if len(scans_hu) != count:
        raise _damaged(folder.parents[1], f"{folder} holds {len(scans_hu)} of {count} slices")
    return scans_hu


def _module(folder: Path, name: str, entry: Mapping[str, Any], realisations: int | None) -> Module:
    truth = folder / entry["truth"]
    plain, organs = truth.with_name("noise_free_plain.nii"), truth.with_name("organs.nii")
    truth_hu = _slices(truth.with_name("noise_free.nii"))[0]
    return Module(
        name=name,
        truth_hu=truth_hu,
        plain_hu=_slices(plain)[0] if plain.exists() else truth_hu,
        organs=_slices(organs)[0].astype(np.uint8) if organs.exists() else None,
        facts=json.loads(truth.read_text(encoding="utf-8")),
        series=_series(folder, entry),
        realisations=realisations,
    )


def _stack(folder: Path, entry: Mapping[str, Any]) -> Stack:
    truth = folder / entry["truth"]
    return Stack(
        truth_hu=_slices(truth.with_name("noise_free.nii")),
        facts=json.loads(truth.read_text(encoding="utf-8")),
        series=_series(folder, entry),
    )


def _series(folder: Path, entry: Mapping[str, Any]) -> dict[float, Path]:
    return {float(one["dose"]): folder / one["image"] for one in entry["series"]}


def _damaged(folder: Path, came: str) -> ConfigRefusal:
    """What to do depends on whose folder it is: ours is made again once it is gone."""
    ours = folder.resolve().is_relative_to(cache().resolve())
    return ConfigRefusal(
        f"test objects in {folder} are damaged: {came}",
        allowed="the slices as they were made",
        cure=f"delete {folder}, and run again: it is made anew"
        if ours
        else f"make them anew, or leave --dataset out: python -m data_prep phantom {folder} --kind physics",
    )


def _slices(file: Path) -> Volume:
    volume = NiftiVolume(file, check=False)
    return np.stack([volume.hu(one) for one in volume.slices()])
