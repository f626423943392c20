"""What is done to anatomy: shifts of each tissue apart, and where things lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.evaluation.qa import tissue
from iscl_monai.evaluation.qa.phantom import ANATOMY, INSERTS, Phantom
from iscl_monai.evaluation.qa.regions import TISSUES, tissues
from iscl_monai.evaluation.qa.tissue import displacement_mm, tissue_figures


@pytest.mark.parametrize("shifted", TISSUES)
def test_a_shift_of_one_tissue_is_seen_undiluted_in_it_alone(phantom: Phantom, shifted: str) -> None:
    for name in ANATOMY:
        scans_hu, masks = phantom.modules[name].scans_hu(0.25), tissues(phantom, name)
        after_hu = scans_hu + np.float32(10) * masks[shifted]
        for one in tissue_figures(phantom, name, scans_hu, after_hu):
            assert one.shift_hu == pytest.approx(10 if one.tissue == shifted else 0, abs=0.01)


def test_every_tissue_can_be_measured_somewhere(phantom: Phantom) -> None:
    most = {kind: max(int(tissues(phantom, name)[kind].sum()) for name in ANATOMY) for kind in TISSUES}
    assert min(most.values()) >= tissue.FEWEST_PIXELS


def test_too_few_pixels_of_a_tissue_say_nothing(monkeypatch: pytest.MonkeyPatch, phantom: Phantom) -> None:
    chest = ANATOMY[0]
    scans_hu = phantom.modules[chest].scans_hu(0.25)
    lung = next(one for one in tissue_figures(phantom, chest, scans_hu, scans_hu) if one.tissue == "lung")
    monkeypatch.setattr(tissue, "FEWEST_PIXELS", lung.pixels + 1)
    found = {one.tissue: one.shift_hu for one in tissue_figures(phantom, chest, scans_hu, scans_hu + 60)}
    assert math.isnan(found["lung"])


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_where_things_lie_is_known_to_a_tenth_of_a_pixel(phantom: Phantom, angle: float) -> None:
    for name in (INSERTS, *ANATOMY):
        truth = phantom.modules[name].truth_hu
        still = np.stack([truth, truth + 5])
        assert displacement_mm(phantom, name, still) == pytest.approx(0, abs=1e-4)
        assert displacement_mm(phantom, name, ndimage.gaussian_filter(still, (0, 1, 1))) < 0.1
        moved = (
            ndimage.rotate(truth, angle, reshape=False, mode="nearest")
            if angle
            else ndimage.shift(truth, (0.3, -0.4), mode="nearest")
        )
        found = displacement_mm(phantom, name, moved[None])
        assert found > 0.2 if angle else found == pytest.approx(0.5 * phantom.spacing_mm, abs=0.14)
