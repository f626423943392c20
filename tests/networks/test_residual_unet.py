"""Residual U-Nets for micrographs and MR: silent at first, of the reach they say, the same by tiles."""

from __future__ import annotations

import pytest
import torch

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks import ResidualUNetExtractor, ResidualUNetGenerator
from iscl_monai.networks.residual_unet import with_moments

SIZES = {"width": 2, "levels": 3, "unshuffle": 2}


def lively(seed: int = 0, *, magnitude: bool = False) -> ResidualUNetExtractor:
    """One that has learnt something."""
    made = ResidualUNetExtractor(**SIZES, magnitude=magnitude).eval()
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=source))
    return made


@torch.no_grad()
def test_they_start_with_no_noise() -> None:
    x = torch.randn(1, 1, 40, 36).clamp(-1, 1)
    assert torch.equal(ResidualUNetGenerator(**SIZES)(x), x)
    assert not ResidualUNetExtractor(**SIZES)(x).any()


@torch.no_grad()
def test_a_generator_takes_away_what_the_extractor_finds() -> None:
    x, h = torch.randn(1, 1, 37, 50), lively()
    f = ResidualUNetGenerator(**SIZES)
    f.load_state_dict(h.state_dict())
    assert torch.equal(f(x), x - h(x))
    assert h(x).shape == x.shape
    assert h(x).std() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("magnitude", [False, True])
def test_nothing_beyond_the_reach_changes_an_answer(*, magnitude: bool) -> None:
    """And the reach is no more than twice what is needed: tiles pay for it."""
    h, middle = lively(magnitude=magnitude), 128
    x = torch.zeros(1, 1, 256, 256)
    x[..., 1::3] = 0.2
    changed = x.clone()
    changed[..., middle, middle] += 1
    places = (h(changed) - h(x)).abs()[0, 0].gt(1e-7).nonzero() - middle
    assert h.reach_px / 2 < places.abs().max() <= h.reach_px


@torch.no_grad()
def test_what_is_told_of_the_surroundings_belongs_to_the_reach() -> None:
    reaches = [ResidualUNetExtractor(width=2, levels=1, magnitude=told).reach_px for told in (False, True)]
    h, middle = ResidualUNetExtractor(width=2, levels=1, magnitude=True), 64
    source = torch.Generator().manual_seed(0)
    for parameter in h.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=source))
    x = torch.rand(1, 1, 128, 128, generator=source) - 0.5
    changed = x.clone()
    changed[..., middle, middle] += 0.5
    places = (h(changed) - h(x)).abs()[0, 0].gt(1e-7).nonzero() - middle
    assert reaches[0] < places.abs().max() <= reaches[1]


@torch.no_grad()
def test_a_shift_of_brightness_is_seen() -> None:
    """Clouds of film are nothing else; CT's U-Nets do not see it."""
    x = 0.1 * torch.randn(1, 1, 64, 64)
    assert (lively()(x + 0.3) - lively()(x)).abs().mean() > 1e-3


@pytest.mark.parametrize("sigma", [0.02, 0.08])
def test_mean_and_spread_tell_the_dark_however_loud(sigma: float) -> None:
    source = torch.Generator().manual_seed(0)

    def ratio(grey: float) -> float:
        real, imaginary = sigma * torch.randn(2, 1, 4, 64, 64, generator=source)
        magnitudes = torch.hypot(grey + real, imaginary)
        seen = with_moments(magnitudes - 1)
        torch.testing.assert_close(seen[:, :4], magnitudes)
        return float((seen[:, 4] / seen[:, 5]).mean())

    dark, faint, tissue = (ratio(times * sigma) for times in (0, 3, 10))
    assert dark == pytest.approx(1.913, rel=0.03)
    assert faint == pytest.approx(3.26, rel=0.05)  # mean 3.17, spread 0.97 in Rician noise of 1
    assert tissue == pytest.approx(10, rel=0.05)


@torch.no_grad()
def test_a_place_that_is_called_dark_is_noise_alone() -> None:
    x = torch.rand(1, 1, 32, 32) - 1
    f = ResidualUNetGenerator(**SIZES, magnitude=True)
    assert torch.equal(f(x), x)
    channels = f.first.weight
    channels.zero_()
    channels[:, -2, 1, 1] = 1.0  # the mean around
    assert f.first.bias is not None
    f.first.bias.zero_()
    f.last.weight[-1, :, 1, 1] = 5.0
    torch.testing.assert_close(f(x), torch.full_like(x, -1.0), atol=0.02, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("magnitude", [False, True])
def test_it_can_be_scripted(*, magnitude: bool) -> None:
    x = torch.randn(1, 1, 48, 48)
    for made in (lively(magnitude=magnitude), ResidualUNetGenerator(**SIZES, magnitude=magnitude)):
        torch.testing.assert_close(torch.jit.script(made)(x), made(x))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ConfigRefusal, match=r"residual U-Net .*; allowed: 1 or more each"):
        ResidualUNetExtractor(**{**SIZES, name: 0})
