"""A dataset to measure on: test objects at several doses, each slice another realisation of the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ConfigRefusal
from iscl_monai.phantom.anatomy_slice import REGIONS, draw_anatomy_slice
from iscl_monai.phantom.anatomy_stack import REGION, SLICES, AnatomyStack, draw_anatomy_stack
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.objects import MODULES, WATER_RADIUS_MM, Disc, draw_discs
from iscl_monai.phantom.parts import Writer, make_parts, write_json, write_volume
from iscl_monai.phantom.seeds import named_rng
from iscl_monai.phantom.series import SyntheticScan, write_series
from iscl_monai.scanner.dose import SIMULATOR, acquire

RECIPE = 3  # raise whenever the same parameters give other bytes
OVERVIEW = "physics.json"
KERNEL = "Hann"
FIELD_MM = 2 * WATER_RADIUS_MM + 10
ANATOMY = {f"anatomy_{region}": region for region in REGIONS}
"""Modules that show a slice of a made-up patient, and which."""

STACK = "stack"
"""The module that shows neighbouring slices of a made-up patient, each once."""

DESCRIPTION = (
    "Test objects made by `python -m data_prep phantom --kind physics`: water, inserts, low_contrast, and slices of a "
    "made-up chest and abdomen with small lesions. Each dose_* is a DICOM series whose slices show the same object "
    "with independent noise; in stack they are neighbouring slices of one patient. truth/ holds the object as drawn "
    "(drawn.nii), as the scanner shows it without noise (noise_free.nii; of anatomy also without its lesions, "
    "noise_free_plain.nii), the organs (organs.nii), and where everything is (truth.json). The seed decides places, "
    "anatomy, lesions and noise."
)


@dataclass(frozen=True, kw_only=True)
class PhysicsRecipe:
    """All that decides the dataset's bytes.

    Args:
        seed: decides places, anatomy, lesions and noise.
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
        seed: decides places, anatomy, lesions and noise; the same seed gives the same bytes.
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
    for module in (*MODULES, *ANATOMY, STACK):
        parts[f"{module}/truth"] = partial(_truth_maker(module), module, recipe)
        for dose in recipe.doses:
            parts[f"{module}/dose_{dose:g}"] = partial(_make_series, module, dose, recipe)
    return make_parts(directory, recipe.manifest(), parts, last=(OVERVIEW, _overview(recipe)), unit="series")


def _overview(recipe: PhysicsRecipe) -> dict[str, Any]:
    modules = {
        module: {
            "truth": f"{module}/truth/truth.json",
            "series": [{"dose": dose, "image": f"{module}/dose_{dose:g}"} for dose in recipe.doses],
        }
        for module in (*MODULES, *ANATOMY, STACK)
    }
    return {"description": DESCRIPTION, "modules": modules}


def _truth_maker(module: str) -> Callable[[str, PhysicsRecipe], Writer]:
    return _make_stack_truth if module == STACK else _make_anatomy_truth if module in ANATOMY else _make_truth


def _discs(module: str, recipe: PhysicsRecipe) -> list[Disc]:
    return MODULES[module](named_rng(recipe.seed, module))


def _make_truth(module: str, recipe: PhysicsRecipe) -> Writer:
    """The object as drawn, as the scanner can show it, and in numbers."""
    background, *inserts = (disc.entry(recipe.size, recipe.spacing_mm) for disc in _discs(module, recipe))
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
    return partial(
        _write_truth,
        volumes=volumes,
        organs=anatomy.organs[None],
        recipe=recipe,
        module=module,
        region=ANATOMY[module],
        lesions=[one.entry() for one in anatomy.lesions],
        calcifications=[one.entry() for one in anatomy.calcifications],
        islands=[one.entry() for one in anatomy.islands],
    )


def _make_stack_truth(module: str, recipe: PhysicsRecipe) -> Writer:
    """Neighbouring slices, and the rods that end among them."""
    stack = _stack(recipe)
    volumes = {"drawn": stack.hu, "noise_free": _shown(stack.hu, recipe)}
    return partial(
        _write_truth,
        volumes=volumes,
        organs=stack.organs,
        recipe=recipe,
        module=module,
        region=REGION,
        realisations=SLICES,
        rods=[rod.entry() for rod in stack.rods],
    )


def _stack(recipe: PhysicsRecipe) -> AnatomyStack:
    return draw_anatomy_stack(
        seed=recipe.seed, size=recipe.size, spacing_mm=recipe.spacing_mm, slice_mm=recipe.slice_mm
    )


def _write_truth(
    folder: Path,
    *,
    volumes: Mapping[str, Floats],
    recipe: PhysicsRecipe,
    organs: NDArray[np.uint8] | None = None,
    **facts: Any,
) -> None:
    steps = {"spacing_mm": recipe.spacing_mm, "slice_mm": recipe.slice_mm}
    for name, hu in volumes.items():
        write_volume(folder / f"{name}.nii", hu, **steps)
    if organs is not None:
        write_volume(folder / "organs.nii", organs, **steps)
    numbers = {"size": recipe.size, **steps, "realisations": recipe.realisations, "photons": recipe.photons}
    write_json(folder / "truth.json", {"module": facts.pop("module"), **numbers, **facts})


def _drawn(module: str, recipe: PhysicsRecipe) -> Floats:
    """HU (1, row, column); of the stack all its slices."""
    if module == STACK:
        return _stack(recipe).hu
    if module not in ANATOMY:
        return draw_discs(_discs(module, recipe), size=recipe.size, spacing_mm=recipe.spacing_mm)[None]
    anatomy = draw_anatomy_slice(ANATOMY[module], seed=recipe.seed, size=recipe.size, spacing_mm=recipe.spacing_mm)
    return anatomy.with_lesions_hu[None]


def _shown(drawn_hu: Floats, recipe: PhysicsRecipe) -> Floats:
    """As the scanner shows it without noise."""
    return acquire(drawn_hu, spacing_mm=recipe.spacing_mm, photons=math.inf)


def _make_series(module: str, dose: float, recipe: PhysicsRecipe) -> Writer:
    """One module at one dose, scanned slice by slice."""
    hu = acquire(
        _drawn(module, recipe),  # a single slice is projected once; only noise and reconstruction are repeated
        spacing_mm=recipe.spacing_mm,
        photons=recipe.photons,
        fraction=dose,
        seed=recipe.seed,
        slice_ids=[f"{module}/{dose:g}/{index}" for index in range(SLICES if module == STACK else recipe.realisations)],
    )
    scan = SyntheticScan(
        subject=module.upper(),
        # No word for test objects here; QualityControlImage says it.
        part=(REGION if module == STACK else ANATOMY.get(module, "wholebody")).upper(),
        title=module.replace("_", " "),
        dose=dose,
        number=1 + recipe.doses.index(dose),
        kernel=KERNEL,
        spacing_mm=recipe.spacing_mm,
        slice_mm=recipe.slice_mm,
        identity=json.dumps(recipe.manifest()),
    )
    return partial(write_series, hu=hu, scan=scan)
