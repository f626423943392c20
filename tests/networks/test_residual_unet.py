"""Residual U-Nets for micrographs and MR: silent at first, of the reach they say, the same by tiles."""

from __future__ import annotations

import pytest
import torch

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks import ResidualUNetExtractor, ResidualUNetGenerator

SIZES = {"width": 2, "levels": 3, "unshuffle": 2}


def lively(seed: int = 0) -> ResidualUNetExtractor:
    """One that has learnt something."""
    made = ResidualUNetExtractor(**SIZES).eval()
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
def test_nothing_beyond_the_reach_changes_an_answer() -> None:
    """And the reach is no more than twice what is needed: tiles pay for it."""
    h, middle = lively(), 128
    x = torch.zeros(1, 1, 256, 256)
    x[..., 1::3] = 0.2
    changed = x.clone()
    changed[..., middle, middle] += 1
    places = (h(changed) - h(x)).abs()[0, 0].gt(1e-7).nonzero() - middle
    assert h.reach_px / 2 < places.abs().max() <= h.reach_px


@torch.no_grad()
def test_a_shift_of_brightness_is_seen() -> None:
    """Clouds of film are nothing else; CT's U-Nets do not see it."""
    x = 0.1 * torch.randn(1, 1, 64, 64)
    assert (lively()(x + 0.3) - lively()(x)).abs().mean() > 1e-3


@torch.no_grad()
def test_it_can_be_scripted() -> None:
    x = torch.randn(1, 1, 48, 48)
    for made in (lively(), ResidualUNetGenerator(**SIZES)):
        torch.testing.assert_close(torch.jit.script(made)(x), made(x))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ConfigRefusal, match=r"residual U-Net .*; allowed: 1 or more each"):
        ResidualUNetExtractor(**{**SIZES, name: 0})
