"""Moving means and minima by shifted images are those of pooling, at every border."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from iscl_monai.networks.local import box_mean, box_minimum, quiet_deviation, quiet_deviation_reach_px


def images(rows: int, columns: int, channels: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.rand(2, channels, rows, columns, generator=source) * 2 - 1


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), half=st.integers(0, 14), channels=st.integers(1, 3))
def test_means_and_minima_are_those_of_pooling(rows: int, columns: int, half: int, channels: int) -> None:
    x, side = images(rows, columns, channels), 2 * half + 1
    mean = avg_pool2d(x, side, stride=1, padding=half, count_include_pad=False)
    torch.testing.assert_close(box_mean(x, side), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(box_minimum(x, side), -max_pool2d(-x, side, 1, half), rtol=0, atol=0)


def test_torchscript_gives_the_same() -> None:
    x = images(33, 50)
    torch.testing.assert_close(torch.jit.script(quiet_deviation)(x), quiet_deviation(x), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_noise_grows_with_what_varies(scale: float) -> None:
    x = 0.1 * images(64, 64)
    torch.testing.assert_close(quiet_deviation(scale * x), scale * quiet_deviation(x), rtol=1e-5, atol=0)


def test_the_noise_sees_as_far_as_it_says() -> None:
    x, reach = images(120, 90).double(), quiet_deviation_reach_px()
    changed = x.clone()
    changed[:, :, 60, 45] = 0
    rows, columns = (quiet_deviation(x) != quiet_deviation(changed))[0, 0].nonzero(as_tuple=True)
    assert reach == 32
    assert max((rows - 60).abs().max(), (columns - 45).abs().max()) <= reach
