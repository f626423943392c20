"""The U-Nets: no pattern of their own, answers that follow the noise, and a say in how much is too much."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.inference.tiles import SeamlessInferer
from iscl_monai.networks import (
    DenoisingNetwork,
    Generator,
    NetworkDescription,
    NoiseExtractor,
    NoiseUNet,
    UNetGenerator,
)
from iscl_monai.networks.description import UNetDescription, UNetExtractorDescription
from iscl_monai.networks.local import quiet_deviation
from iscl_monai.networks.unet import LOUDEST

SIZES = {"width": 4, "levels": 3, "blocks": 1, "unshuffle": 2}


def noisy(rows: int = 64, columns: int = 64, *, sigma: float = 0.03, batch: int = 1, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    steps = 0.2 * torch.rand(batch, 1, rows // 16 + 1, columns // 16 + 1, generator=source)
    anatomy = steps.repeat_interleave(16, -2).repeat_interleave(16, -1)[..., :rows, :columns]
    return anatomy + sigma * torch.randn(batch, 1, rows, columns, generator=source)


def lively(network: nn.Module, seed: int = 3) -> nn.Module:
    """Random weights everywhere, the last ones and all biases too."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=source) * (0.2 if weights.ndim == 4 else 0.3))
    return network.eval()


def extractor(**sizes: int) -> NoiseUNet:
    made = lively(NoiseUNet(**{**SIZES, **sizes}))
    assert isinstance(made, NoiseUNet)
    return made


def denoiser(**arguments: object) -> DenoisingNetwork:
    f = lively(UNetGenerator(**SIZES))
    assert isinstance(f, UNetGenerator)
    return DenoisingNetwork(
        denoiser=f, noise_extractor=extractor(), hu_window=HUWindow(-1000, 1000), **arguments
    ).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_they_start_with_no_noise() -> None:
    x = noisy()
    assert torch.equal(UNetGenerator(**SIZES)(x), x)
    assert torch.equal(UNetGenerator(adds=True, **SIZES)(x), x)
    assert not NoiseUNet(**SIZES)(x).any()


@torch.no_grad()
def test_generators_take_away_or_add_what_the_extractor_finds() -> None:
    x, h = noisy(), extractor()
    for adds, sign in ((False, -1), (True, 1)):
        generator = UNetGenerator(adds=adds, **SIZES)
        generator.load_state_dict(h.state_dict())
        torch.testing.assert_close(generator(x), x + sign * h(x), rtol=0, atol=0)
    assert h(x).std() > 0.1 * 0.03


@pytest.mark.parametrize("level", [-0.9, 0.0, 0.4])
@torch.no_grad()
def test_a_flat_image_comes_out_as_it_is(level: float) -> None:
    flat = torch.full((1, 1, 80, 96), level)
    torch.testing.assert_close(flat - extractor()(flat), flat, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_grid_does_not_show_in_the_answer_to_noise() -> None:
    """The mean answer to much noise would show any pattern that belongs to the network and not to the image."""
    h, total = extractor(), torch.zeros(1, 144, 144)
    for seed in range(6):
        total += h(0.03 * torch.randn(4, 1, 144, 144, generator=torch.Generator().manual_seed(seed))).sum(0)
    power = torch.fft.fft2(total[0, 40:-40, 40:-40]).abs().square()
    for period, allowed in ((2, 30), (4, 60), (8, 100)):  # the spectrum is not white; a pattern stands out 1000-fold
        step = 64 // period
        pattern = power[::step, ::step].flatten()[1:]
        assert pattern.max() < allowed * power.median(), period


@torch.no_grad()
def test_each_place_of_the_grid_has_no_mean_of_its_own() -> None:
    found = extractor()(noisy(128, 128))
    for row in range(2):
        for column in range(2):
            assert found[..., row::2, column::2][..., 12:-12, 12:-12].mean().abs() < 0.03 * found.std()


def test_what_is_called_noise_is_a_few_times_the_noise_around_at_most() -> None:
    network = lively(NoiseUNet(**SIZES))
    with torch.no_grad():
        network.last.weight.mul_(1e4)
        x = noisy()
        x[..., 20:40, 20:40] += 0.8  # an edge far above the noise
        assert (network(x).abs() <= 2 * LOUDEST * quiet_deviation(x)).all()


@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0])
@torch.no_grad()
def test_the_answer_is_scaled_as_the_image(scale: float) -> None:
    """One network for all doses: an image whose variations are twice as large has twice the noise."""
    x, h = noisy(), extractor()
    torch.testing.assert_close(h(scale * x), scale * h(x), rtol=0, atol=scale * 1e-5)
    assert h(x).std() > 1e-3


@torch.no_grad()
def test_without_noise_nothing_is_removed() -> None:
    step = torch.zeros(1, 1, 80, 80)
    step[..., 37:] = 0.5
    assert extractor()(step).abs().max() < 1e-5
    assert extractor()(step + 0.01 * torch.randn(step.shape)).abs().max() > 1e-3


@torch.no_grad()
def test_a_quarter_of_the_dose_has_twice_the_noise() -> None:
    x, h = noisy(), extractor()
    everything = h(x)
    h.want(dose=0.25)
    torch.testing.assert_close(h(x), 0.5 * everything, rtol=1e-5, atol=1e-7)
    h.want(dose=1.0)
    assert not h(x).any()


@torch.no_grad()
def test_wanted_noise_leaves_quiet_images_alone_and_not_loud_ones() -> None:
    h, x = extractor(), noisy(sigma=0.02)
    everything, level = h(x), float(quiet_deviation(x).max())
    h.want(noise=1.01 * level)
    assert not h(x).any()
    h.want(noise=0.5 * level)
    assert (h(x).std() / everything.std()) == pytest.approx(0.5, abs=0.1)


@torch.no_grad()
def test_in_training_half_the_noise_is_a_quarter_of_its_variance() -> None:
    h, x = extractor(), noisy(sigma=0.02)
    everything = h(x)
    h.want(noise=1.0)  # what the clean twin has comes before it
    torch.testing.assert_close(h(x, 0.5 * quiet_deviation(x)), 0.75 * everything, rtol=1e-4, atol=1e-6)


def test_what_is_wanted_travels_with_the_weights() -> None:
    made = denoiser(blend=0.25)
    made.denoiser.want(noise=0.01)  # type: ignore[operator]
    made.noise_extractor.want(dose=0.5)  # type: ignore[operator]
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    again = DenoisingNetwork.from_weights(torch.load(file, weights_only=True)).eval()
    x = noisy()
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
    assert again.denoiser.wanted_noise == pytest.approx(0.01)
    assert again.noise_extractor.dose == 0.5


@pytest.mark.parametrize("arguments", [{"noise": -0.1}, {"dose": 1.5}])
def test_wishes_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigRefusal, match="noise >= 0, dose 0 to 1"):
        NoiseUNet(**SIZES).want(**arguments)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"levels": 0}, {"blocks": -1}, {"unshuffle": 0}])
def test_sizes_that_make_no_sense_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigRefusal, match="defaults are 16, 3, 1 and 2"):
        NoiseUNet(**{**SIZES, **arguments})


@pytest.mark.parametrize(("levels", "unshuffle"), [(3, 2), (1, 2), (2, 1), (2, 4)])
@torch.no_grad()
def test_no_pixel_reaches_farther_than_the_network_says(levels: int, unshuffle: int) -> None:
    h = extractor(levels=levels, unshuffle=unshuffle).double()
    side = 2 * h.reach_px + 33
    x = noisy(side, side + 3).double()
    farthest = 0
    for place in (side // 2, side // 2 + 3, 1):
        changed = x.clone()
        changed[..., place, place] += 0.3
        rows, columns = (h(changed) != h(x))[0, 0].nonzero(as_tuple=True)
        farthest = max(farthest, int((rows - place).abs().max()), int((columns - place).abs().max()))
    # The noise around is seen through a minimum, which one pixel rarely decides: it need not use all of its reach.
    assert h.reach_px - 2 * h.stride - 32 <= farthest <= h.reach_px


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (45, 21)])
@torch.no_grad()
def test_any_size_is_kept_and_torchscript_gives_the_same(size: tuple[int, int]) -> None:
    made, x = denoiser(), noisy(*size, batch=2)
    assert made(x).shape == x.shape
    torch.testing.assert_close(torch.jit.script(made)(x), made(x), rtol=0, atol=1e-6)
    alone = torch.cat([made(x[:1]), made(x[1:])])
    torch.testing.assert_close(made(x), alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_tiles_give_what_the_whole_slice_gives() -> None:
    made = denoiser()
    side = 4 * made.reach_px + 2 * 16
    x = noisy(side + 75, 40)
    tiled = SeamlessInferer(tile_px=-(-side // 16) * 16, reach_px=made.reach_px, stride_px=made.stride_px)(x, made)
    torch.testing.assert_close(tiled, made(x), rtol=0, atol=1e-5)


def test_they_describe_themselves() -> None:
    described = NetworkDescription.of_weights(denoiser().state_dict())
    assert described.denoiser == UNetDescription(**SIZES)
    assert described.noise_extractor == UNetExtractorDescription(**SIZES)
    overrides = described.overrides()
    assert {name: overrides[name] for name in ("width", "levels", "extractor_unshuffle")} == {
        "width": 4,
        "levels": 3,
        "extractor_unshuffle": 2,
    }


def test_weights_of_another_kind_of_extractor_are_refused() -> None:
    f = Generator(width=2, downsamplings=1, residual_blocks=1)
    parts = [DenoisingNetwork(denoiser=f, noise_extractor=h, hu_window=HUWindow(-1000, 1000)) for h in (
        NoiseUNet(**SIZES), NoiseExtractor(width=4, layers=3)
    )]  # fmt: skip
    with pytest.raises(CheckpointRefusal, match="weights of a NoiseUNet, for a NoiseExtractor"):
        parts[1].load_state_dict(parts[0].state_dict())


def test_all_weights_learn() -> None:
    """The last ones start at 0, and with them all gradients but theirs; after one step all have some."""
    network = UNetGenerator(**SIZES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(noisy()) - noisy(sigma=0)).abs().mean().backward()
        optimizer.step()
    # The last bias is taken away with the mean.
    learnt = [p for name, p in network.named_parameters() if name != "last.bias"]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt)


@torch.no_grad()
def test_a_perfect_network_leaves_the_noise_that_is_wanted() -> None:
    made = denoiser(keep_mean_px=0, mode="extractor")
    flat, n = torch.zeros(1, 1, 96, 96), noisy(96, 96, sigma=0.04) - noisy(96, 96, sigma=0.0)
    made.noise_extractor.in_units = lambda x, noise: n / noise  # type: ignore[method-assign]
    made.want(noise_hu=10.0)
    assert 1000 * float(quiet_deviation(made(flat + n)).median()) == pytest.approx(8.6, rel=0.1)
    assert 1000 * float(quiet_deviation(n).median()) > 25


@torch.no_grad()
def test_a_denoiser_is_told_in_hounsfield_units() -> None:
    made, x = denoiser(keep_mean_px=0), noisy(sigma=0.02)
    assert (made(x) - x).abs().max() > 1e-3
    made.want(noise_hu=1000 * 1.2 * float(quiet_deviation(x).max()))
    assert torch.equal(made(x), x)
    made.want(dose=1.0)
    assert torch.equal(made(x), x)


def test_a_network_that_cannot_be_told_refuses_to_be() -> None:
    f = Generator(width=2, downsamplings=1, residual_blocks=1)
    made = DenoisingNetwork(denoiser=f, noise_extractor=NoiseUNet(**SIZES), hu_window=HUWindow(-1000, 1000))
    with pytest.raises(ConfigRefusal, match="a wanted noise for a Generator"):
        made.want(noise_hu=10)
