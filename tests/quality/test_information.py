from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import visual_information_fidelity

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.information import visual_information
from iscl_monai.quality.protocol import HU_BODY, LDCT_BENCH_ABDOMEN

WINDOW = HUWindow(-1024, 1900)


def images(sigma_hu: float = 20) -> tuple[np.ndarray, np.ndarray]:
    """Image and scene: waves from below air to above the window, and noise on the image."""
    rows, columns = np.mgrid[:64, :80]
    scene = (-1100 + 40 * columns + 150 * np.sin(rows / 4)).astype(np.float32)
    noise = np.random.default_rng(2).normal(0, sigma_hu, scene.shape)
    return (scene + noise).astype(np.float32), scene


def published(predictions: np.ndarray, target: np.ndarray) -> float:
    """torchmetrics on HU + 1024 clipped to [0, 2924]."""
    tensors = [
        torch.from_numpy(np.clip(hu.astype(np.float64) + 1024, 0, 2924))[None, None] for hu in (predictions, target)
    ]
    return float(visual_information_fidelity(*tensors, sigma_n_sq=2.0))


def test_it_is_torchmetrics_with_the_noise_of_ldct_bench() -> None:
    image, scene = images()
    assert visual_information(image, scene, window=WINDOW) == pytest.approx(published(image, scene), abs=1e-12)
    assert visual_information(scene, scene, window=WINDOW) == pytest.approx(1, abs=1e-6)
    assert visual_information(images(60)[0], scene, window=WINDOW) < visual_information(image, scene, window=WINDOW)


def test_ldct_bench_gives_the_target_where_the_prediction_belongs() -> None:
    """Its ``vif(t, p)`` calls torchmetrics with preds=t, target=p, in float32: its numbers can be met only so."""
    test, reference = images(100)
    measured = fidelity(test, reference, protocol=LDCT_BENCH_ABDOMEN)
    assert measured.vif[0] == pytest.approx(published(reference, test), abs=1e-12)
    assert abs(published(reference, test) - published(test, reference)) > 2e-3
    single = [torch.from_numpy(np.clip(hu + 1024, 0, 2924))[None, None] for hu in (reference, test)]
    assert measured.vif[0] == pytest.approx(float(visual_information_fidelity(*single, sigma_n_sq=2.0)), abs=1e-4)


def test_protocols_without_vif_have_none() -> None:
    measured = fidelity(*images(), protocol=HU_BODY)
    assert np.isnan(measured.vif).all()
    assert np.isnan(measured.mean().vif)
    assert "vif" not in measured.mean().gain_over(measured.mean())
    bench = fidelity(*images(), protocol=LDCT_BENCH_ABDOMEN).mean()
    assert bench.gain_over(bench)["vif"] == 0


def test_a_flat_slice_does_not_spoil_the_mean() -> None:
    image, scene = images()
    flat = np.full_like(scene, -1000)
    measured = fidelity(np.stack([image, flat]), np.stack([scene, flat]), protocol=LDCT_BENCH_ABDOMEN)
    assert np.isnan(measured.vif).tolist() == [False, True]
    assert measured.mean().vif == measured.vif[0]


def test_what_has_no_coarsest_scale_is_refused() -> None:
    image, scene = images()
    with pytest.raises(ImageRefusal, match="at least 41 pixels"):
        visual_information(image[:40], scene[:40], window=WINDOW)
    with pytest.raises(ImageRefusal, match=r"\(64, 80\) and \(63, 80\)"):
        visual_information(image, scene[:63], window=WINDOW)


def test_without_torchmetrics_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(ConfigRefusal, match=r"pip install \"iscl-monai\[evaluate\]\""):
        visual_information(*images(), window=WINDOW)
