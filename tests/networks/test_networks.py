from __future__ import annotations

import copy
import sys
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks import (
    BatchInstanceNorm2d,
    DenoisingNetwork,
    Discriminator,
    Generator,
    NoiseExtractor,
    fold_normalisation,
    gather_statistics,
    initialise,
    project_rho,
    skip,
)
from iscl_monai.networks.blocks import NormedConv, SymmetricConv2d, symmetric_pad
from iscl_monai.networks.denoising_network import MODES
from iscl_monai.networks.local import local_mean, quiet_deviation
from iscl_monai.networks.normalization import normalisations
from iscl_monai.networks.skip import NonLocalSkip, non_local_means

Network = TypeVar("Network", bound=nn.Module)


def images(batch: int = 2, rows: int = 24, columns: int = 20, *, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, rows, columns, generator=source) * 2 - 1


def lived_in(network: Network) -> Network:
    """Every rho, gamma and beta other than at the start, statistics gathered, ready for inference."""
    for norm in normalisations(network):
        nn.init.uniform_(norm.rho, 0.2, 0.8)
        nn.init.uniform_(norm.gamma, 0.5, 1.5)
        nn.init.uniform_(norm.beta, -0.3, 0.3)
    gather_statistics(network, [images(seed=2), images(seed=3)])
    return network.eval()


def small_denoiser(**arguments: object) -> DenoisingNetwork:
    torch.manual_seed(0)
    denoiser = lived_in(Generator(width=4, residual_blocks=1))
    noise_extractor = lived_in(NoiseExtractor(width=4, layers=4))
    given: Any = {"hu_window": HUWindow(-1000, 400), **arguments}
    return DenoisingNetwork(denoiser=denoiser, noise_extractor=noise_extractor, **given).eval()


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(Generator, 1_148_225), (NoiseExtractor, 168_801), (Discriminator, 2_790_177)],
)
def test_authors_sizes_are_the_defaults(network: type[nn.Module], parameters: int) -> None:
    assert sum(p.numel() for p in network().parameters()) == parameters


def test_only_inner_convolutions_are_normalised() -> None:
    generator = [m for m in Generator(width=2).modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(generator) == 1 + 2 + 3 * 2 + 2 + 1
    assert len(list(normalisations(Generator(width=2)))) == len(generator) - 1
    assert len(list(normalisations(NoiseExtractor(width=2, layers=5)))) == 5 - 2
    assert len(list(normalisations(Discriminator(width=2)))) == 6 - 2


@pytest.mark.parametrize(
    ("size", "logits"), [((64, 64), (1, 1)), ((96, 64), (3, 1)), ((128, 80), (5, 2)), ((71, 64), (1, 1))]
)
def test_a_patch_gives_one_logit_and_more_a_map(size: tuple[int, int], logits: tuple[int, int]) -> None:
    assert Discriminator(width=2)(images(3, *size)).shape == (3, 1, *logits)


def test_logits_are_unbounded() -> None:
    network = Discriminator(width=2)
    with torch.no_grad():
        network.get_parameter("steps.6.weight").mul_(1000)
    assert network(images(4, 64, 64)).abs().max() > 10


@cache
def shape_keepers() -> list[nn.Module]:
    generators = [Generator(width=2, downsamplings=n, residual_blocks=1) for n in range(4)]
    generators.append(Generator(width=2, residual_blocks=1, skip="nonlocal"))
    return [network.eval() for network in (*generators, NoiseExtractor(width=2, layers=3))]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(16, 45),
    columns=st.integers(16, 45),
    batch=st.integers(1, 3),
    which=st.integers(0, 5),
)
def test_any_size_from_16_pixels_up_is_kept(rows: int, columns: int, batch: int, which: int) -> None:
    x = images(batch, rows, columns)
    with torch.no_grad():
        assert shape_keepers()[which](x).shape == x.shape


def test_a_generator_stays_within_the_network_range_and_an_extractor_does_not() -> None:
    x = images() * 50
    assert Generator(width=4)(x).abs().max() <= 1
    assert NoiseExtractor(width=4, layers=2)(x).abs().max() > 1


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=arrays.array_shapes(min_dims=2, max_dims=4, max_side=7))
def test_symmetric_padding_is_numpys(data: st.DataObject, shape: tuple[int, ...]) -> None:
    top, bottom = (data.draw(st.integers(0, shape[-2])) for _ in range(2))
    left, right = (data.draw(st.integers(0, shape[-1])) for _ in range(2))
    x = torch.rand(shape)
    widths = [(0, 0)] * (len(shape) - 2) + [(top, bottom), (left, right)]
    expected = np.pad(x.numpy(), widths, mode="symmetric")
    np.testing.assert_array_equal(symmetric_pad(x, bottom, right, top, left), expected)


@pytest.mark.parametrize("pad", [1, 3])
def test_symmetric_convolutions_pad_symmetrically(pad: int) -> None:
    conv = SymmetricConv2d(1, 2, 2 * pad + 1, pad=pad)
    x = images()
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (pad, pad), (pad, pad)], mode="symmetric"))
    torch.testing.assert_close(conv(x), nn.functional.conv2d(padded, conv.weight, conv.bias))


def test_initial_weights_are_truncated_normal_and_biases_zero() -> None:
    network = Generator(width=16)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.weight.abs().max() <= 0.1
            assert module.bias is not None
            assert not module.bias.any()
    # Standard deviation of a normal distribution cut at two sigma: 0.8796 sigma.
    weights = [p.detach().flatten() for name, p in network.named_parameters() if "conv.weight" in name]
    assert torch.cat(weights).std().item() == pytest.approx(0.8796 * 0.05, rel=0.01)


def test_initialisation_repeats_with_its_own_source_of_randomness() -> None:
    twins = [NoiseExtractor(width=3, layers=3) for _ in range(2)]
    for twin in twins:
        initialise(twin, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(twins[0].state_dict(), twins[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "network",
    [
        lambda: Generator(width=8, residual_blocks=2),
        lambda: Generator(width=4, downsamplings=0),
        lambda: Generator(width=4, skip="nonlocal"),
        lambda: NoiseExtractor(width=8, layers=6),
        lambda: Discriminator(width=4),
    ],
    ids=["generator", "generator-without-downsampling", "generator-with-skip", "extractor", "discriminator"],
)
@torch.no_grad()
def test_folding_changes_frozen_output_by_rounding_only(network: object) -> None:
    assert callable(network)
    plain = network()
    x = images(2, 64, 64)
    for norm in normalisations(plain):
        nn.init.uniform_(norm.rho, 0.2, 0.8)
        nn.init.uniform_(norm.gamma, 0.5, 1.5)
        nn.init.uniform_(norm.beta, -0.3, 0.3)
    initialise(plain)  # a generator with a skip has no last weights at the start
    untouched = plain.eval()(x)
    gather_statistics(plain, [images(4, 64, 64, seed=2), images(4, 64, 64, seed=3)])
    expected = plain(x)
    assert (expected - untouched).abs().max() > 1e-3

    folded = fold_normalisation(copy.deepcopy(plain))

    assert not list(normalisations(folded))
    assert (folded(x) - expected).abs().max() < 1e-4
    torch.testing.assert_close(fold_normalisation(folded)(x), folded(x), rtol=0, atol=0)


@torch.no_grad()
def test_what_is_not_frozen_is_not_folded() -> None:
    network = small_denoiser(statistics="per_slice")
    x = images()
    expected = network(x)
    assert torch.equal(fold_normalisation(network)(x), expected)
    assert list(normalisations(network))


@torch.no_grad()
def test_generators_with_a_skip_start_as_their_skip() -> None:
    x = images()
    assert torch.equal(Generator(width=2, skip="identity", reach=0.3)(x), x)
    filtered = Generator(width=2, skip="nonlocal")(x)
    assert torch.equal(filtered, NonLocalSkip()(x))
    assert (filtered - x).abs().max() > 0.01


@torch.no_grad()
def test_a_generator_adds_no_more_than_its_reach_to_its_skip() -> None:
    x, network = images(), Generator(width=2, skip="identity", reach=0.25)
    initialise(network, std=5)
    added = (network(x) - x).abs().max().item()
    assert added == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("skip", ["nonlocal", "identity"])
def test_a_generator_with_a_skip_learns(skip: str) -> None:
    """Its last weights start at 0, and with them all gradients but theirs; after one step all have some."""
    network = Generator(width=2, residual_blocks=1, skip=skip, reach=0.3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(images()) - images(seed=5)).abs().mean().backward()
        optimizer.step()
    # A bias before a normalisation is taken away by it, so it never has a gradient to speak of.
    learnt = [p for name, p in network.named_parameters() if "conv.bias" not in name and "rho" not in name]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt)


def test_skips_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigRefusal, match="skip='unet'; allowed: none, nonlocal, identity"):
        Generator(width=2, skip="unet")


def test_the_skip_is_non_local_means() -> None:
    source = images(1, 9, 10)
    x = np.pad(source[0, 0].numpy().astype(np.float64), 1, mode="reflect")
    h = 0.4
    expected = np.empty((9, 10))
    for row in range(9):
        for column in range(10):
            weights, values = [], []
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    patch = [
                        (x[r + 1 + down, c + 1 + right] - x[r + 1, c + 1]) ** 2
                        for r in range(max(row - 1, 0), min(row + 2, 9))
                        for c in range(max(column - 1, 0), min(column + 2, 10))
                    ]
                    weights.append(np.exp(-np.mean(patch) / h**2))
                    values.append(x[row + 1 + down, column + 1 + right])
            expected[row, column] = np.average(values, weights=weights)
    done = non_local_means(source, torch.full_like(source, h), 1, 3)
    np.testing.assert_allclose(done[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(16, 40), (33, 21)])
def test_the_compiled_skip_gives_what_torch_gives(rows: int, columns: int) -> None:
    """To 0.001 HU of a window of 2000 HU."""
    flat = torch.zeros(1, 1, rows, columns)
    flat[..., columns // 2 :] = 0.9
    noisy = flat + 0.03 * torch.randn(3, 1, rows, columns, generator=torch.Generator().manual_seed(4))
    h = torch.full_like(noisy, 0.04)
    h[:, :, : rows // 2] = 0
    compiled = non_local_means(noisy, h, 4, 5)
    in_torch = non_local_means(noisy.double(), h.double(), 4, 5)
    assert (compiled - in_torch).abs().max() < 1e-6
    assert (compiled - noisy).abs().max() > 0.01
    torch.testing.assert_close(torch.jit.script(non_local_means)(noisy, h, 4, 5), compiled, rtol=0, atol=1e-6)


def test_without_numba_torch_computes_the_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with an extra, and a plain installation trains and denoises, too."""
    monkeypatch.setattr(skip, "HAS_NUMBA", False)
    monkeypatch.setitem(sys.modules, "iscl_monai.networks.numba_skip", None)
    x = images(1, 16, 24)
    expected = non_local_means(x.double(), torch.full_like(x, 0.04).double(), 4, 5)
    assert (non_local_means(x, torch.full_like(x, 0.04), 4, 5) - expected).abs().max() < 1e-6


def test_the_skip_passes_gradients_on() -> None:
    x = images(1, 16, 16).requires_grad_()
    NonLocalSkip()(x).square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().min() > 0


def test_the_skip_averages_noise_and_keeps_edges() -> None:
    step = torch.zeros(1, 1, 48, 48)
    step[..., 24:] = 0.8
    noisy = step + 0.02 * torch.randn(step.shape)
    out = NonLocalSkip()(noisy)
    assert (out - step).abs().max() < 0.07
    assert (out - step).std() < 0.45 * (noisy - step).std()
    torch.testing.assert_close(NonLocalSkip()(step), step, rtol=0, atol=1e-6)


def test_the_noise_is_that_of_each_place() -> None:
    """One threshold for a whole slice would blur its quiet half, or leave its loud half."""
    torch.manual_seed(0)
    sigma = torch.full((1, 1, 96, 192), 0.01)
    sigma[..., 96:] = 0.05
    deviation = quiet_deviation(sigma * torch.randn(sigma.shape))[0, 0]
    quiet, loud = deviation[:, 16:60].mean().item(), deviation[:, 132:176].mean().item()
    assert loud / quiet == pytest.approx(5, rel=0.05)
    assert 0.6 * 0.01 < quiet < 0.01


def test_clipped_air_says_nothing_about_noise() -> None:
    torch.manual_seed(0)
    image = torch.full((1, 1, 64, 128), -1.0)
    image[..., 64:] = 0.02 * torch.randn(1, 1, 64, 64)
    deviation = quiet_deviation(image)[0, 0]
    assert (deviation[:, 70:] > 0.6 * 0.02).all()
    assert (deviation[:, :20] == 0).all()


def interior(image: Tensor, margin: int = 32) -> Tensor:
    return image[0, 0, margin:-margin, margin:-margin]


@pytest.mark.parametrize("level", [-0.9, 0.0, 0.4])
@torch.no_grad()
def test_without_transposed_convolutions_a_flat_image_comes_out_flat(level: float) -> None:
    flat = torch.full((1, 1, 96, 96), level)
    networks = (
        Generator(width=4, downsamplings=0, residual_blocks=1),
        NoiseExtractor(width=4, layers=6),
    )
    for network in networks:
        assert interior(lived_in(network)(flat)).std() < 1e-6


@pytest.mark.parametrize("downsamplings", [1, 2])
@torch.no_grad()
def test_a_flat_image_can_only_come_out_with_the_period_of_the_strides(downsamplings: int) -> None:
    """The checkerboard of transposed convolutions, and nothing else.

    It is *not* zero: an even position of the output is reached by fewer weights than an odd one, and only
    training evens that out. What the architecture does promise: all power sits at multiples of 1/stride.
    """
    network = lived_in(Generator(width=4, downsamplings=downsamplings, residual_blocks=1))
    stride = 2**downsamplings
    out = interior(network(torch.full((1, 1, 128, 128), 0.3))).double()

    power = torch.fft.fft2(out - out.mean()).abs().square()
    harmonics = power[:: len(out) // stride, :: len(out) // stride]

    assert out.std() > 1e-3
    assert harmonics.sum() / power.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("keep_mean_px", [0, 5])
@torch.no_grad()
def test_modes_are_what_they_say(keep_mean_px: int) -> None:
    network, x = small_denoiser(blend=0.3, keep_mean_px=keep_mean_px), images()
    y_hat, y_bar = network.denoiser(x), x - network.noise_extractor(x)

    expected = {"generator": y_hat, "extractor": y_bar, "ensemble": 0.3 * y_hat + 0.7 * y_bar}
    if keep_mean_px:
        expected = {mode: image - local_mean(image - x, keep_mean_px) for mode, image in expected.items()}
    assert expected["extractor"].abs().max() > 1.1, "without it clipping is not tested"
    at_once = dict(zip(("generator", "extractor", "ensemble"), network.modes(x), strict=True))
    for mode in MODES:
        network.mode = mode
        out = network(x)
        torch.testing.assert_close(out, expected[mode].clip(-1, 1), rtol=0, atol=1e-6)
        assert torch.equal(at_once[mode], out)
    assert set(expected) == set(MODES)


@pytest.mark.parametrize("size", [(14, 11), (6, 3)])
def test_the_local_mean_is_twice_the_mean_of_the_neighbours_there_are(size: tuple[int, int]) -> None:
    image = images(1, *size)
    expected = image[0, 0].double().numpy()
    for _ in range(2):
        counted = [
            [expected[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].mean() for column in range(size[1])]
            for row in range(size[0])
        ]
        expected = np.array(counted)
    np.testing.assert_allclose(local_mean(image, 5)[0, 0], expected, atol=1e-6)


@torch.no_grad()
def test_a_shift_is_given_back_up_to_the_border_and_removed_noise_is_not() -> None:
    network, x = small_denoiser(keep_mean_px=9), 0.5 * images(1, 64, 64)
    torch.testing.assert_close(network.finish(x, x + 0.3), x, rtol=0, atol=1e-6)
    noise = 0.02 * torch.randn(x.shape)
    taken = x + noise - network.finish(x + noise, x)
    assert (taken - noise).std() < 0.15 * noise.std()
    assert small_denoiser(keep_mean_px=0).finish(x, x + 0.3).mean() - x.mean() > 0.29


@pytest.mark.parametrize(("blend", "mode"), [(1.0, "generator"), (0.0, "extractor")])
def test_the_ends_of_the_blend_are_the_modes(blend: float, mode: str) -> None:
    x = images()
    blended, alone = small_denoiser(blend=blend), small_denoiser(mode=mode)
    torch.testing.assert_close(blended(x), alone(x), rtol=0, atol=1e-7)


def test_the_blend_travels_with_the_weights() -> None:
    other = small_denoiser(blend=0.125)
    network = small_denoiser()
    assert network.blend == 0.5
    network.load_state_dict(other.state_dict())
    assert network.blend == 0.125
    torch.testing.assert_close(network(images()), other(images()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blend": 1.5}, "blend=1.5; allowed: 0 to 1"),
        ({"blend": -0.1}, "blend=-0.1"),
        ({"blend": float("nan")}, "blend=nan"),
        ({"mode": "both"}, "mode='both'; allowed: ensemble, generator, extractor"),
        ({"keep_mean_px": 8}, "keep_mean_px=8; allowed: 0 or an odd number"),
        ({"keep_mean_px": -1}, "keep_mean_px=-1"),
        ({"statistics": "batch"}, "statistics='batch'; allowed: frozen or per_slice"),
    ],
)
def test_denoisers_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigRefusal, match=message):
        small_denoiser(**arguments)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"downsamplings": -1}, {"residual_blocks": -1}])
def test_generators_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefusal, match="the authors use 32, 2 and 3"):
        Generator(**arguments)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"layers": 1}])
def test_extractors_that_make_no_sense_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigRefusal, match="the authors use 32 and 20"):
        NoiseExtractor(**arguments)


@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
@torch.no_grad()
def test_neighbours_in_the_batch_change_nothing_at_all(statistics: str) -> None:
    network = small_denoiser(statistics=statistics)
    x = images(3)
    others = x.clone()
    others[1:] = images(2, seed=9) * 100
    assert torch.equal(network(others)[0], network(x)[0])


@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
@torch.no_grad()
def test_a_slice_alone_is_the_slice_in_a_batch(statistics: str) -> None:
    """To rounding: oneDNN sums in another order for one image than for several."""
    for dtype, atol in ((torch.float32, 5e-6), (torch.float64, 1e-12)):
        network, x = small_denoiser(statistics=statistics).to(dtype), images(4).to(dtype)
        alone = torch.cat([network(x[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(network(x), alone, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
@torch.no_grad()
def test_torchscript_gives_the_same(mode: str, statistics: str) -> None:
    network = small_denoiser(mode=mode, statistics=statistics)
    scripted = torch.jit.script(network)
    for x in (images(), images(1, 17, 33)):
        torch.testing.assert_close(scripted(x), network(x), rtol=0, atol=1e-6)


def test_rho_is_projected_in_every_network_given() -> None:
    networks = Generator(width=2), NoiseExtractor(width=2, layers=3)
    for network in networks:
        for norm in normalisations(network):
            nn.init.constant_(norm.rho, 1.25)
    project_rho(*networks)
    assert all((norm.rho == 1).all() for network in networks for norm in normalisations(network))


def test_the_activation_in_place_does_not_spoil_gradients() -> None:
    block = NormedConv(nn.Conv2d(2, 2, 3)).double()
    assert isinstance(block.norm, BatchInstanceNorm2d)
    nn.init.constant_(block.norm.rho, 0.4)
    x = torch.rand(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))
