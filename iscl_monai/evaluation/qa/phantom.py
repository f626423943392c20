"""The test objects that are denoised: read from a folder that ``data_prep phantom --kind physics`` made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.nifti import NiftiVolume
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ConfigRefusal, Refusal
from iscl_monai.phantom import make_physics
from iscl_monai.quality.hallucination import FEWEST_REALISATIONS

OVERVIEW = "physics.json"
WATER, INSERTS, LOW_CONTRAST = "water", "inserts", "low_contrast"
ANATOMY = ("anatomy_chest", "anatomy_abdomen")
MODULES = (WATER, INSERTS, LOW_CONTRAST, *ANATOMY)
FULL_DOSE = 1.0
DOSES = (1.0, 0.5, 0.25, 0.1, 0.05)

Slice = npt.NDArray[np.float32]
Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a phantom is made.

    Args:
        pixels: rows and columns.
        spacing_mm: distance of pixels.
        realisations: of the noise, for each object and dose.
        doses: shares of the full dose.
    """

    pixels: int
    spacing_mm: float
    realisations: int
    doses: tuple[float, ...]


FULL = Size(pixels=512, spacing_mm=0.7, realisations=20, doses=DOSES)
QUICK = Size(pixels=256, spacing_mm=1.4, realisations=6, doses=(1.0, 0.25))


@dataclass(frozen=True, kw_only=True, eq=False)
class Module:
    """One test object.

    Args:
        name: of :data:`MODULES`.
        truth_hu: as the scanner shows it without noise, (row, column).
        plain_hu: the same without the signals that are to be found; the truth itself where there are none.
        facts: ``truth.json``.
        series: folder of each dose.
    """

    name: str
    truth_hu: Slice
    plain_hu: Slice
    facts: Mapping[str, Any]
    series: Mapping[float, Path]

    def scans_hu(self, dose: float) -> Volume:
        """Realisations of the noise, HU (realisation, row, column).

        Raises:
            ConfigRefusal: a slice is damaged or missing.
        """
        folder = self.series[dose]
        try:
            scans_hu = read_series(folder).hu
        except Refusal as error:
            raise _damaged(folder.parents[1], error.came) from error
        if len(scans_hu) != int(self.facts["realisations"]):
            raise _damaged(folder.parents[1], f"{folder} holds {len(scans_hu)} of {self.facts['realisations']} slices")
        return scans_hu

    @property
    def signal_hu(self) -> Slice:
        """What the signals add, HU (row, column). Reconstruction is linear, so taking this off takes them out."""
        difference: Slice = self.truth_hu - self.plain_hu
        return difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """All test objects, each in realisations of the noise at several doses.

    Args:
        modules: by name.
        spacing_mm: distance of pixels.
        realisations: of each module and dose.
        doses: shares of the full dose, descending.
        photons: per ray in air at full dose.
    """

    modules: Mapping[str, Module]
    spacing_mm: float
    realisations: int
    doses: tuple[float, ...]
    photons: float

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        return self.spacing_mm, self.spacing_mm

    @property
    def thorough(self) -> bool:
        """Whether there are images enough for every task; else a few stand for all."""
        return self.realisations >= 10


def read_phantom(folder: Path, doses: Sequence[float] | None = None) -> Phantom:
    """Read what is there of it but the scans.

    Args:
        folder: holds ``physics.json``.
        doses: which; None: all. Full dose always comes with them.

    Raises:
        ConfigRefusal: no such phantom there, an older or damaged one, too few realisations, or no such dose.
    """
    try:
        modules = json.loads((folder / OVERVIEW).read_text(encoding="utf-8"))["modules"]
        there = {float(entry["dose"]) for entry in modules[WATER]["series"]}
        objects = {name: _module(folder, name, modules[name]) for name in MODULES}
    except Refusal as error:
        raise _damaged(folder, error.came) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (folder / OVERVIEW).exists() and isinstance(error, (OSError, json.JSONDecodeError)):
            raise _damaged(folder, f"{type(error).__name__} {error}") from error
        raise ConfigRefusal(
            f"{folder}: {type(error).__name__} {error}",
            allowed=f"test objects {', '.join(MODULES)}",
            cure="leave --dataset out, or: python -m data_prep phantom FOLDER --kind physics",
        ) from error
    facts = objects[WATER].facts
    asked = there if doses is None else {FULL_DOSE, *map(float, doses)}
    realisations = int(facts["realisations"])
    if not {FULL_DOSE, *asked} <= there or realisations < FEWEST_REALISATIONS:
        raise ConfigRefusal(
            f"{folder}: doses {sorted(there)} with {realisations} realisations, asked for {sorted(asked)}",
            allowed=f"those of the folder, full dose (1) among them, at least {FEWEST_REALISATIONS} realisations",
            cure="leave --dataset out, or make a phantom with more",
        )
    objects[LOW_CONTRAST] = _without_discs(objects[LOW_CONTRAST], objects[WATER])
    return Phantom(
        modules=objects,
        spacing_mm=float(facts["spacing_mm"]),
        realisations=realisations,
        doses=tuple(sorted(asked, reverse=True)),
        photons=float(facts["photons"]),
    )


def make_phantom(folder: Path, size: Size) -> Path:
    """Make the test objects, or find them made.

    Args:
        folder: of a phantom of this size; another is replaced, anything else refused.
        size: of it.

    Returns:
        ``folder``.

    Raises:
        Refusal: as :func:`iscl_monai.phantom.make_physics`.
    """
    make_physics(folder, size=size.pixels, spacing_mm=size.spacing_mm, realisations=size.realisations, doses=size.doses)
    return folder


def cache_folder(size: Size) -> Path:
    """Where a phantom of this size is kept for the next time: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    doses = "-".join(f"{dose:g}" for dose in size.doses)
    return _cache() / f"physics-{size.pixels}-{size.realisations}-{doses}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iscl-monai"


def _module(folder: Path, name: str, entry: Mapping[str, Any]) -> Module:
    truth = folder / entry["truth"]
    plain = truth.with_name("noise_free_plain.nii")
    truth_hu = _slice(truth.with_name("noise_free.nii"))
    return Module(
        name=name,
        truth_hu=truth_hu,
        plain_hu=_slice(plain) if plain.exists() else truth_hu,
        facts=json.loads(truth.read_text(encoding="utf-8")),
        series={float(one["dose"]): folder / one["image"] for one in entry["series"]},
    )


def _without_discs(low_contrast: Module, water: Module) -> Module:
    return Module(
        name=low_contrast.name,
        truth_hu=low_contrast.truth_hu,
        plain_hu=water.truth_hu,
        facts=low_contrast.facts,
        series=low_contrast.series,
    )


def _damaged(folder: Path, came: str) -> ConfigRefusal:
    """What to do depends on whose folder it is: ours is made again once it is gone."""
    ours = folder.resolve().is_relative_to(_cache().resolve())
    return ConfigRefusal(
        f"test objects in {folder} are damaged: {came}",
        allowed="the slices as they were made",
        cure=f"delete {folder}, and run again: it is made anew"
        if ours
        else f"make them anew, or leave --dataset out: python -m data_prep phantom {folder} --kind physics",
    )


def _slice(file: Path) -> Slice:
    volume = NiftiVolume(file, check=False)
    return volume.hu(next(volume.slices()))
