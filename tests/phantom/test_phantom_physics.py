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

from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ConfigRefusal
from iscl_monai.phantom import make_physics
from iscl_monai.phantom.anatomy_slice import APART_MM, draw_anatomy_slice
from iscl_monai.phantom.anatomy_stack import SLICES, draw_anatomy_stack
from iscl_monai.phantom.canvas import Organ
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.phantom.islands import CALCIFICATIONS_MM
from iscl_monai.phantom.objects import MODULES, WATER_RADIUS_MM, draw_discs
from iscl_monai.phantom.physics import ANATOMY, STACK
from iscl_monai.phantom.seeds import named_rng

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
    discs = MODULES[module](named_rng(5, module))
    drawn_hu = draw_discs(discs, size=512, spacing_mm=0.7).astype(np.float64)
    area = (0.7**2 * (drawn_hu + 1000)).sum()
    analytic = math.pi * WATER_RADIUS_MM**2 * 1000
    analytic += sum(math.pi * disc.radius_mm**2 * disc.hu for disc in discs[1:])
    assert area == pytest.approx(analytic, rel=1e-5)
    for disc in discs[1:]:
        row, column = (round(value) for value in disc.place(512, 0.7))
        assert drawn_hu[row, column] == pytest.approx(disc.hu, abs=1e-3)


def test_no_disc_touches_another() -> None:
    for name, module in MODULES.items():
        water, *discs = module(named_rng(5, name))
        for a in discs:
            assert math.hypot(a.x_mm, a.y_mm) + a.radius_mm < water.radius_mm - 5
            for b in discs:
                assert a is b or math.hypot(a.x_mm - b.x_mm, a.y_mm - b.y_mm) > a.radius_mm + b.radius_mm + 5


def test_the_overview_names_what_is_there(overview: Path) -> None:
    modules = json.loads(overview.read_text())["modules"]
    assert modules.keys() == {*MODULES, *ANATOMY, STACK}
    for name, module in modules.items():
        assert (overview.parent / module["truth"]).is_file()
        assert [entry["dose"] for entry in module["series"]] == [1.0, 0.25]
        for entry in module["series"]:
            assert len(list((overview.parent / entry["image"]).glob("*.dcm"))) == (SLICES if name == STACK else 4)


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


@pytest.mark.parametrize("region", ANATOMY.values())
def test_lesions_of_a_slice_are_what_and_where_they_are_said_to_be(region: str) -> None:
    drawn = draw_anatomy_slice(region, seed=0, size=256, spacing_mm=1.4)
    added_hu = drawn.with_lesions_hu - drawn.plain_hu
    assert len(drawn.lesions) >= 12
    for lesion in drawn.lesions:
        row, column = lesion.centre
        assert added_hu[row, column] == pytest.approx(lesion.contrast_hu, rel=0.02)
        area_mm2 = lesion.image((256, 256), 1.4).sum() * 1.4**2 / lesion.contrast_hu
        by_hand = math.pi * lesion.diameter_mm**2 / (4 if lesion.shape == "disc" else 4 * math.log(2))
        assert area_mm2 == pytest.approx(by_hand, rel=0.03)
        others = [other for other in drawn.lesions if other is not lesion]
        assert all(math.dist(other.centre, lesion.centre) * 1.4 > APART_MM + lesion.diameter_mm / 2 for other in others)
        assert 0.89 <= lesion.contrast_hu / lesion.kind_hu <= 1.11
        assert 0.89 <= lesion.diameter_mm / lesion.kind_mm <= 1.11
    assert {abs(lesion.kind_hu) for lesion in drawn.lesions} == {10, 20, 50}


@pytest.mark.parametrize("region", ANATOMY.values())
def test_bone_contrast_medium_and_calcifications_are_in_every_slice(region: str) -> None:
    for seed in (0, 1):
        drawn = draw_anatomy_slice(region, seed=seed, size=256, spacing_mm=1.4)
        assert sorted(island.organ.name for island in drawn.islands) == ["BONE", "BONE", "VESSEL", "VESSEL"]
        for island in drawn.islands:
            assert drawn.plain_hu[island.centre] == pytest.approx(island.hu, abs=0.1)
            assert drawn.organs[island.centre] == island.organ
        assert [one.diameter_mm for one in drawn.calcifications] == sorted(CALCIFICATIONS_MM, reverse=True)
        for one in drawn.calcifications:
            area_mm2 = one.image((256, 256), 1.4).sum() * 1.4**2 / one.contrast_hu
            assert area_mm2 == pytest.approx(math.pi * one.diameter_mm**2 / 4, rel=0.03)


def test_another_seed_is_another_phantom() -> None:
    one, other = (draw_anatomy_slice("chest", seed=seed, size=128, spacing_mm=2.8) for seed in (0, 1))
    assert np.abs(one.plain_hu - other.plain_hu).mean() > 20
    for name, module in MODULES.items():
        discs, others = ([disc.x_mm for disc in module(named_rng(seed, name))] for seed in (0, 1))
        assert (discs == others) == (name == "water")


def test_rods_of_a_stack_end_between_two_slices() -> None:
    stack = draw_anatomy_stack(seed=0, size=128, spacing_mm=2.8, slice_mm=3.0)
    assert stack.hu.shape == (SLICES, 128, 128)
    assert len(stack.rods) >= 4
    for rod in stack.rods:
        along = stack.hu[:, rod.centre[0], rod.centre[1]]
        step_hu = along[rod.step] - along[rod.step - 1]
        assert step_hu == pytest.approx(rod.contrast_hu * (1 if rod.above else -1), abs=20)  # of 80 and more
        assert len(np.unique(stack.organs[:, rod.centre[0], rod.centre[1]])) == 1
    assert (stack.organs == Organ.BONE).any()


def test_anatomy_comes_with_and_without_its_lesions(overview: Path) -> None:
    folder = overview.parent / "anatomy_abdomen"
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    shown_hu, plain_hu = (
        nibabel.load(folder / "truth" / f"{name}.nii").get_fdata()[..., 0].T
        for name in ("noise_free", "noise_free_plain")
    )
    scanned_hu = read_series(folder / "dose_1").hu.mean(axis=0)
    assert np.abs(scanned_hu - shown_hu).mean() < np.abs(scanned_hu - plain_hu).mean()
    largest = max(truth["lesions"], key=lambda lesion: lesion["diameter_mm"] * abs(lesion["contrast_hu"]))
    row, column = largest["centre_row_column"]
    assert (shown_hu - plain_hu)[row, column] == pytest.approx(largest["contrast_hu"], rel=0.4)


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


@pytest.mark.slow
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
