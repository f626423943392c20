"""Made-up patients: tissues in their places, and lesions that are what the truth says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from iscl_monai.phantom.anatomy import Patient, draw_patient
from iscl_monai.phantom.canvas import Organ

SPACING_MM, SLICE_MM, SIZE = 1.8, 5.0, 192


@cache
def patient(region: str, seed: int) -> Patient:
    rng = np.random.default_rng(seed)
    return draw_patient(rng, region=region, slices=4, size=SIZE, spacing_mm=SPACING_MM, slice_mm=SLICE_MM)


@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_patients_hold_what_a_denoiser_meets(region: str) -> None:
    hu = patient(region, 3).truth_hu
    assert hu.shape == (4, SIZE, SIZE)
    assert hu[:, :12].max() == -1000  # air above
    share = {
        "fat": ((hu > -130) & (hu < -60)).mean(),
        "tissue": ((hu > 0) & (hu < 120)).mean(),
        "bone": (hu > 300).mean(),
        "lung": ((hu > -940) & (hu < -760)).mean(),
    }
    assert share["fat"] > 0.04
    assert share["tissue"] > 0.09
    assert 0.003 < share["bone"] < 0.08
    assert (share["lung"] > 0.08) == (region == "chest")
    spine = hu[:, SIZE // 2 :, SIZE // 2 - 16 : SIZE // 2 + 16]
    assert (spine > 300).mean() > (hu > 300).mean()  # the spine lies at the back
    assert np.abs(patient(region, 4).truth_hu - hu).mean() > 10


def test_the_liver_is_on_the_right_and_the_aorta_before_the_spine() -> None:
    organs = patient("abdomen", 3).organs
    _, _, columns = np.nonzero(organs == Organ.LIVER)
    assert columns.mean() < SIZE / 2 - 10  # columns run to the patient's left
    _, rows, _ = np.nonzero(organs == Organ.KIDNEY)
    assert rows.mean() > SIZE / 2  # kidneys at the back


@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_nothing_leaks_out_of_the_body(region: str) -> None:
    made = patient(region, 5)
    inner = np.isin(made.organs, [Organ.LIVER, Organ.LUNG, Organ.BOWEL, Organ.HEART, Organ.SPLEEN, Organ.KIDNEY])
    outside = np.isin(made.organs, [Organ.AIR, Organ.TABLE, Organ.SKIN])
    for index in range(len(inner)):
        rows, columns = np.nonzero(inner[index])
        for row, column in zip(rows[::37], columns[::37], strict=True):
            around = outside[index, row - 3 : row + 4, column - 3 : column + 4]
            assert not around.any()


def test_lesions_have_the_contrast_and_the_place_that_the_truth_says() -> None:
    deviations = []
    for region in ("chest", "abdomen"):
        for seed in range(4):
            made = patient(region, seed)
            row_of, column_of = np.ogrid[:SIZE, :SIZE]
            for lesion in made.lesions:
                index, row, column = lesion.index
                distance_mm = np.hypot(row_of - row, column_of - column) * SPACING_MM
                core = distance_mm < max(1.0, lesion.radius_mm - SPACING_MM)
                ring = (distance_mm > lesion.radius_mm + 1) & (distance_mm < lesion.radius_mm + 2.9)
                hu, organs = made.truth_hu[index], made.organs[index]
                assert (organs[core | ring] == Organ[lesion.organ.upper()]).all(), lesion
                deviations.append(hu[core].mean() - hu[ring].mean() - lesion.contrast_hu)
                assert made.lesion_mask[index, row, column] == lesion.number
    assert len(deviations) > 45
    # Tissue itself varies by 3 HU, slowly.
    assert abs(np.mean(deviations)) < 0.7
    assert np.std(deviations) < 2.5


def test_lesions_are_spread_and_apart() -> None:
    made = [patient(region, seed) for region in ("chest", "abdomen") for seed in range(4)]
    lesions = [lesion for one in made for lesion in one.lesions]
    contrasts = np.abs([lesion.contrast_hu for lesion in lesions])
    radii = np.array([lesion.radius_mm for lesion in lesions])
    assert contrasts.min() >= 5
    assert contrasts.max() <= 50
    assert radii.min() >= 3
    assert radii.max() <= 12
    assert np.histogram(contrasts, bins=3, range=(5, 50))[0].min() > len(lesions) / 6
    assert (radii < 6).sum() > 8
    assert (radii > 9).sum() > 5
    for one in made:
        for a in one.lesions:
            for b in one.lesions:
                apart_mm = np.linalg.norm(np.subtract(a.centre_lps_mm, b.centre_lps_mm))
                assert a is b or apart_mm > a.radius_mm + b.radius_mm


def test_the_mask_is_the_sphere() -> None:
    made = patient("abdomen", 2)
    for lesion in made.lesions:
        index = lesion.index[0]
        area_mm2 = (made.lesion_mask[index] == lesion.number).sum() * SPACING_MM**2
        assert area_mm2 == pytest.approx(np.pi * lesion.radius_mm**2, rel=0.2, abs=4 * SPACING_MM**2)
