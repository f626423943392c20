from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow

HU = st.floats(-5000, 5000, width=32).filter(lambda hu: hu != 0 or np.copysign(1, hu) > 0)
IMAGES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=HU)
KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


@st.composite
def windows(draw: st.DrawFn) -> HUWindow:
    lower = draw(st.integers(-4000, 3000))
    return HUWindow(lower, lower + draw(st.integers(1, 6000)))


def tolerance_hu(window: HUWindow) -> float:
    """A few float32 roundings of the largest number on the way."""
    return 4 * float(np.finfo(np.float32).eps) * (window.half_width + abs(window.centre) + 5000)


@KINDS
@settings(max_examples=40, deadline=None)
@given(window=windows(), share=arrays.arrays(np.float32, 8, elements=st.floats(0, 1, width=32)))
def test_inside_the_window_the_round_trip_is_exact_to_rounding(kind: Any, window: HUWindow, share: np.ndarray) -> None:
    image_hu = kind((window.lower + share * 2 * window.half_width).astype(np.float32))
    back = window.to_hu(window.to_network(image_hu))
    assert type(back) is type(image_hu)
    assert back.dtype == image_hu.dtype
    np.testing.assert_allclose(back, image_hu, rtol=0, atol=tolerance_hu(window))


@KINDS
@settings(max_examples=40, deadline=None)
@given(window=windows(), image_hu=IMAGES)
def test_network_range_is_kept_and_order_with_it(kind: Any, window: HUWindow, image_hu: np.ndarray) -> None:
    mapped = np.asarray(window.to_network(kind(image_hu)))
    assert mapped.shape == image_hu.shape
    assert mapped.min() >= -1
    assert mapped.max() <= 1
    assert (mapped[image_hu <= window.lower] == -1).all()
    assert (mapped[image_hu >= window.upper] == 1).all()
    assert (np.diff(mapped.ravel()[np.argsort(image_hu, axis=None)]) >= 0).all()


@KINDS
def test_a_window_maps_its_borders_and_centre(kind: Any) -> None:
    window = HUWindow(-160, 240)
    image_hu = kind(np.array([-1024, -160, 40, 140, 240, 3071], dtype=np.float32))
    np.testing.assert_allclose(window.to_network(image_hu), [-1, -1, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(window.contains(image_hu), [False, True, True, True, True, False])
    assert window.half_width == 200
    assert window.centre == 40


@KINDS
@settings(max_examples=60, deadline=None)
@given(data=st.data(), window=windows(), image_hu=IMAGES)
def test_a_change_leaves_what_lies_outside_bit_for_bit(
    kind: Any, data: st.DataObject, window: HUWindow, image_hu: np.ndarray
) -> None:
    elements = st.floats(-1, 1, width=32)
    prediction = data.draw(arrays.arrays(np.float32, image_hu.shape, elements=elements))
    out_hu = np.asarray(window.apply_change(kind(image_hu), kind(prediction)))
    assert out_hu.dtype == np.float32

    outside = (image_hu < window.lower) | (image_hu > window.upper)
    assert out_hu[outside].tobytes() == image_hu[outside].tobytes()

    # Inside, the change lands where the prediction says: in = lower + ..., out = to_hu(prediction).
    expected_hu = prediction.astype(np.float64) * window.half_width + window.centre
    np.testing.assert_allclose(out_hu[~outside], expected_hu[~outside], rtol=0, atol=tolerance_hu(window))


@KINDS
@settings(max_examples=40, deadline=None)
@given(window=windows(), image_hu=IMAGES)
def test_a_network_that_changes_nothing_gives_the_image_back(kind: Any, window: HUWindow, image_hu: np.ndarray) -> None:
    original_hu = kind(image_hu)
    out_hu = window.apply_change(original_hu, window.to_network(original_hu))
    assert np.asarray(out_hu).tobytes() == image_hu.tobytes()


@settings(max_examples=30, deadline=None)
@given(window=windows(), image_hu=IMAGES)
def test_numpy_and_torch_agree_exactly(window: HUWindow, image_hu: np.ndarray) -> None:
    np.testing.assert_array_equal(window.to_network(image_hu), window.to_network(torch.from_numpy(image_hu)))
    np.testing.assert_array_equal(window.to_hu(image_hu), window.to_hu(torch.from_numpy(image_hu)))


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (100, 100),
        (300, -1000),
        (float("nan"), 400),
        (-1000, float("nan")),
        (-float("inf"), 400),
        (-1000, float("inf")),
        (-32769, 0),
        (0, 65536),
    ],
)
def test_empty_and_boundless_windows_are_refused(lower: float, upper: float) -> None:
    with pytest.raises(ConfigRefusal, match=r"HU window .*; allowed: lower < upper.*; do: give"):
        HUWindow(lower, upper)


def test_the_widest_window_holds_all_that_16_bits_can_mean() -> None:
    window = HUWindow(-32768, 65535)
    assert window.half_width == 49151.5
    assert window.centre == 16383.5


def test_a_window_cannot_be_moved() -> None:
    window = HUWindow(-1000, 1000)
    with pytest.raises(FrozenInstanceError):
        window.lower = 0  # type: ignore[misc]
