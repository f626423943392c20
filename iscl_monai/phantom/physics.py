"""A dataset to measure on: test objects at several doses, each slice another realisation of the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from iscl_monai.errors import ConfigRefusal
from iscl_monai.phantom.anatomy_slice import REGIONS, draw_anatomy_slice
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.objects import MODULES, WATER_RADIUS_MM, draw_discs
from iscl_monai.phantom.parts import Writer, make_parts, write_json, write_volume
from iscl_monai.phantom.series import SyntheticScan, write_series
from iscl_monai.scanner.dose import SIMULATOR, acquire

RECIPE = 2  # raise whenever the same parameters give other bytes
OVERVIEW = "physics.json"
KERNEL = "Hann"
FIELD_MM = 2 * WATER_RADIUS_MM + 10
ANATOMY = {f"anatomy_{region}": region for region in REGIONS}
"""Modules that show a slice of a made-up patient, and which."""

DESCRIPTION = (
    "Test objects made by `python -m data_prep phantom --kind physics`: water, inserts, low_contrast, and slices of a "
    "made-up chest and abdomen with small lesions. Each dose_* is a DICOM series whose slices show the same object "
    "with independent noise. truth/ holds the object as drawn (drawn.nii), as the scanner shows it without noise "
    "(noise_free.nii; of anatomy also without its lesions, noise_free_plain.nii), and where everything is (truth.json)."
)


@dataclass(frozen=True, kw_only=True)
class PhysicsRecipe:
    """All that decides the dataset's bytes.

    Args:
        seed: decides the noise.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels; the field must hold the water disc of 300 mm.
        slice_mm: distance of slices.
        realisations: slices per series.
        doses: shares of the full dose.
        photons: per ray in air at full dose.

    Raises:
        ConfigRefusal: if a number makes no sense.
    """

    seed: int = 0
    size: int = 512
    spacing_mm: float = 0.7
    slice_mm: float = 3.0
    realisations: int = 20
    doses: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    photons: float = 1e6

    def __post_init__(self) -> None:
        doses = len(self.doses) > 0 and all(0 < dose <= 1 for dose in self.doses)
        numbers = self.realisations >= 1 and self.slice_mm > 0 and self.photons > 0
        field_mm = self.size * self.spacing_mm
        if not doses or len(set(self.doses)) != len(self.doses) or not numbers or not FIELD_MM <= field_mm < math.inf:
            raise ConfigRefusal(
                f"phantom parameters {asdict(self)}",
                allowed=f"different doses in (0, 1], at least 1 realisation, size x spacing >= {FIELD_MM:g} mm",
                cure="leave a parameter out to take its default",
            )

    def manifest(self) -> dict[str, Any]:
        """What is compared to tell whether a dataset is up to date."""
        return {"kind": "physics", "recipe": RECIPE, "simulator": SIMULATOR, **asdict(self), "doses": [*self.doses]}


def make_physics(
    directory: Path,
    *,
    seed: int = 0,
    realisations: int = 20,
    size: int = 512,
    spacing_mm: float = 0.7,
    doses: Sequence[float] = (1.0, 0.5, 0.25, 0.1),
    photons: float = 1e6,
) -> Path:
    """Make the dataset, or complete one that was interrupted.

    Args:
        directory: folder to make. A phantom dataset of other parameters standing there is replaced.
        seed: decides the noise; the same seed gives the same bytes.
        realisations: slices per series, independent in their noise.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels.
        doses: shares of the full dose; one series of each module for each.
        photons: per ray in air at full dose.

    Returns:
        Path of ``physics.json``, written last: for each module its series by dose, and its truth.

    Raises:
        ConfigRefusal: if a parameter makes no sense, or ``directory`` holds something else.
        OutputRefusal: if it cannot be written.
    """
    recipe = PhysicsRecipe(
        seed=seed,
        size=size,
        spacing_mm=spacing_mm,
        realisations=realisations,
        doses=tuple(float(dose) for dose in doses),
        photons=photons,
    )
    parts = {}
    for module in (*MODULES, *ANATOMY):
        parts[f"{module}/truth"] = partial(_make_anatomy_truth if module in ANATOMY else _make_truth, module, recipe)
        for dose in recipe.doses:
            parts[f"{module}/dose_{dose:g}"] = partial(_make_series, module, dose, recipe)
    return make_parts(directory, recipe.manifest(), parts, last=(OVERVIEW, _overview(recipe)), unit="series")


def _overview(recipe: PhysicsRecipe) -> dict[str, Any]:
    modules = {
        module: {
            "truth": f"{module}/truth/truth.json",
            "series": [{"dose": dose, "image": f"{module}/dose_{dose:g}"} for dose in recipe.doses],
        }
        for module in (*MODULES, *ANATOMY)
    }
    return {"description": DESCRIPTION, "modules": modules}


def _make_truth(module: str, recipe: PhysicsRecipe) -> Writer:
    """The object as drawn, as the scanner can show it, and in numbers."""
    background, *inserts = (disc.entry(recipe.size, recipe.spacing_mm) for disc in MODULES[module]())
    volumes = {"drawn": _drawn(module, recipe), "noise_free": _shown(_drawn(module, recipe), recipe)}
    return partial(_write_truth, volumes=volumes, recipe=recipe, module=module, background=background, inserts=inserts)


def _make_anatomy_truth(module: str, recipe: PhysicsRecipe) -> Writer:
    """A slice of a patient with and without lesions, and where they are."""
    anatomy = draw_anatomy_slice(ANATOMY[module], seed=recipe.seed, size=recipe.size, spacing_mm=recipe.spacing_mm)
    volumes = {
        "drawn": anatomy.with_lesions_hu[None],
        "noise_free": _shown(anatomy.with_lesions_hu[None], recipe),
        "noise_free_plain": _shown(anatomy.plain_hu[None], recipe),
    }
    lesions = [lesion.entry() for lesion in anatomy.lesions]
    return partial(_write_truth, volumes=volumes, recipe=recipe, module=module, region=ANATOMY[module], lesions=lesions)


def _write_truth(folder: Path, *, volumes: Mapping[str, Floats], recipe: PhysicsRecipe, **facts: Any) -> None:
    steps = {"spacing_mm": recipe.spacing_mm, "slice_mm": recipe.slice_mm}
    for name, hu in volumes.items():
        write_volume(folder / f"{name}.nii", hu, **steps)
    numbers = {"size": recipe.size, **steps, "realisations": recipe.realisations, "photons": recipe.photons}
    write_json(folder / "truth.json", {"module": facts.pop("module"), **numbers, **facts})


def _drawn(module: str, recipe: PhysicsRecipe) -> Floats:
    """HU (1, row, column)."""
    if module not in ANATOMY:
        return draw_discs(MODULES[module](), size=recipe.size, spacing_mm=recipe.spacing_mm)[None]
    anatomy = draw_anatomy_slice(ANATOMY[module], seed=recipe.seed, size=recipe.size, spacing_mm=recipe.spacing_mm)
    return anatomy.with_lesions_hu[None]


def _shown(drawn_hu: Floats, recipe: PhysicsRecipe) -> Floats:
    """As the scanner shows it without noise."""
    return acquire(drawn_hu, spacing_mm=recipe.spacing_mm, photons=math.inf)


def _make_series(module: str, dose: float, recipe: PhysicsRecipe) -> Writer:
    """One module at one dose, scanned slice by slice."""
    hu = acquire(
        _drawn(module, recipe),  # projected once; only noise and reconstruction are repeated
        spacing_mm=recipe.spacing_mm,
        photons=recipe.photons,
        fraction=dose,
        seed=recipe.seed,
        slice_ids=[f"{module}/{dose:g}/{index}" for index in range(recipe.realisations)],
    )
    scan = SyntheticScan(
        subject=module.upper(),
        # No word for test objects here; QualityControlImage says it.
        part=ANATOMY.get(module, "wholebody").upper(),
        title=module.replace("_", " "),
        dose=dose,
        number=1 + recipe.doses.index(dose),
        kernel=KERNEL,
        spacing_mm=recipe.spacing_mm,
        slice_mm=recipe.slice_mm,
        identity=json.dumps(recipe.manifest()),
    )
    return partial(write_series, hu=hu, scan=scan)
