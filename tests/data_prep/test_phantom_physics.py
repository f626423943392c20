"""Test objects: drawn exactly, shown by the scanner as drawn, noise independent from slice to slice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom.validators import complaints
from hypothesis import given
from hypothesis import strategies as st

from data_prep.phantom import make_physics
from data_prep.phantom.discs import disc_coverage
from data_prep.phantom.objects import MODULES, WATER_RADIUS_MM, draw_discs
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ConfigRefusal

SIZE, SPACING_MM = 96, 3.4


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("physics") / "set"
    return make_physics(folder, realisations=4, size=SIZE, spacing_mm=SPACING_MM, doses=[1, 0.25])


@given(row=st.floats(10, 30), column=st.floats(10, 30), radius=st.floats(1, 9.5))
def test_a_disc_has_its_area_and_its_centre(row: float, column: float, radius: float) -> None:
    coverage = disc_coverage((41, 41), (row, column), radius).astype(np.float64)
    assert coverage.min() >= 0
    assert coverage.max() <= 1 + 1e-6
    area = coverage.sum()
    assert area == pytest.approx(math.pi * radius**2, rel=2e-3)
    rows, columns = np.mgrid[:41, :41]
    assert (coverage * rows).sum() / area == pytest.approx(row, abs=0.1)
    assert (coverage * columns).sum() / area == pytest.approx(column, abs=0.1)


@pytest.mark.parametrize("module", MODULES)
def test_objects_hold_the_hounsfield_units_of_their_discs(module: str) -> None:
    discs = MODULES[module]()
    drawn_hu = draw_discs(discs, size=512, spacing_mm=0.7).astype(np.float64)
    area = (0.7**2 * (drawn_hu + 1000)).sum()
    analytic = math.pi * WATER_RADIUS_MM**2 * 1000
    analytic += sum(math.pi * disc.radius_mm**2 * disc.hu for disc in discs[1:])
    assert area == pytest.approx(analytic, rel=1e-5)
    for disc in discs[1:]:
        row, column = (round(value) for value in disc.place(512, 0.7))
        assert drawn_hu[row, column] == pytest.approx(disc.hu, abs=1e-3)


def test_no_disc_touches_another() -> None:
    for module in MODULES.values():
        water, *discs = module()
        for a in discs:
            assert math.hypot(a.x_mm, a.y_mm) + a.radius_mm < water.radius_mm - 5
            for b in discs:
                assert a is b or math.hypot(a.x_mm - b.x_mm, a.y_mm - b.y_mm) > a.radius_mm + b.radius_mm + 5


def test_the_overview_names_what_is_there(overview: Path) -> None:
    modules = json.loads(overview.read_text())["modules"]
    assert modules.keys() == MODULES.keys()
    for module in modules.values():
        assert (overview.parent / module["truth"]).is_file()
        assert [entry["dose"] for entry in module["series"]] == [1.0, 0.25]
        for entry in module["series"]:
            assert len(list((overview.parent / entry["image"]).glob("*.dcm"))) == 4


def test_the_scanner_shows_what_was_drawn(overview: Path) -> None:
    folder = overview.parent / "inserts"
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    shown_hu = nibabel.load(folder / "truth" / "noise_free.nii").get_fdata()[..., 0].T
    scanned_hu = read_series(folder / "dose_1").hu.mean(axis=0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    assert len(truth["inserts"]) == 11
    for insert in truth["inserts"]:
        row, column = insert["centre_row_column"]
        core = np.hypot(rows - row, columns - column) * SPACING_MM < insert["radius_mm"] - 2 * SPACING_MM
        assert shown_hu[core].mean() == pytest.approx(insert["hu"], abs=8 + 0.02 * abs(insert["hu"]))
        assert scanned_hu[core].mean() == pytest.approx(shown_hu[core].mean(), abs=12)


def test_realisations_are_independent_and_noise_grows_as_dose_falls(overview: Path) -> None:
    sigma_hu = {}
    for dose in ("1", "0.25"):
        series = read_series(overview.parent / "water" / f"dose_{dose}")
        region = series.hu[:, 36:60, 36:60]
        noise = region - region.mean(axis=0)
        sigma_hu[dose] = float(noise.std()) * math.sqrt(4 / 3)
        pairs = np.corrcoef(noise.reshape(4, -1))[np.triu_indices(4, 1)]
        assert np.abs(pairs + 1 / 3).max() < 0.15  # the mean of four was taken away
    assert sigma_hu["0.25"] / sigma_hu["1"] == pytest.approx(2, rel=0.15)


def test_a_validator_has_no_complaint(overview: Path) -> None:
    assert complaints(overview.parent / "low_contrast" / "dose_0.25" / "00003.dcm") == set()


def test_the_same_arguments_give_the_same_bytes(overview: Path, tmp_path: Path) -> None:
    again = make_physics(tmp_path / "set", realisations=4, size=SIZE, spacing_mm=SPACING_MM, doses=[1, 0.25])
    for file in overview.parent.rglob("*"):
        if file.is_file():
            assert (again.parent / file.relative_to(overview.parent)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "wrong", [{"size": 64}, {"doses": [0.0]}, {"doses": []}, {"doses": [1, 1]}, {"realisations": 0}]
)
def test_parameters_without_sense_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigRefusal, match="phantom parameters"):
        make_physics(tmp_path / "set", **wrong)  # type: ignore[arg-type]
