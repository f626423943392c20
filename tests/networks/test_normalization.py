from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import batch_norm, instance_norm

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks import BatchInstanceNorm2d, gather_statistics, project_rho, set_statistics
from iscl_monai.networks.normalization import normalisations

CHANNELS = 3


def norm(seed: int = 0) -> BatchInstanceNorm2d:
    """A layer in double precision whose every parameter and statistic is other than at the start."""
    source = torch.Generator().manual_seed(seed)
    layer = BatchInstanceNorm2d(CHANNELS).double()
    with torch.no_grad():
        for tensor in (layer.rho, layer.gamma, layer.batch_variance, layer.instance_variance):
            tensor.uniform_(0.1, 0.9, generator=source)
        for tensor in (layer.beta, layer.mean):
            tensor.uniform_(-1, 1, generator=source)
    return layer


def maps(batch: int, rows: int = 5, columns: int = 4) -> Tensor:
    """Maps whose images and channels differ in mean and spread."""
    spread = torch.rand(batch, CHANNELS, 1, 1, dtype=torch.float64) + 0.5
    offset = torch.randn(batch, CHANNELS, 1, 1, dtype=torch.float64)
    return torch.randn(batch, CHANNELS, rows, columns, dtype=torch.float64) * spread + offset


def textbook(layer: BatchInstanceNorm2d, x: Tensor) -> Tensor:
    by_batch = batch_norm(x, None, None, training=True, eps=layer.eps)
    by_instance = instance_norm(x, eps=layer.eps)
    rho, gamma, beta = (p[:, None, None] for p in (layer.rho, layer.gamma, layer.beta))
    return (rho * by_batch + (1 - rho) * by_instance) * gamma + beta


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 4), edge=st.sampled_from([0.0, 1.0, None]))
def test_training_is_the_textbook_form_in_values_and_gradients(seed: int, batch: int, edge: float | None) -> None:
    torch.manual_seed(seed)
    layer = norm(seed)
    if edge is not None:
        nn.init.constant_(layer.rho, edge)
    x, weight = maps(batch).requires_grad_(), maps(batch)
    learnt = [x, layer.rho, layer.gamma, layer.beta]

    ours, expected = layer(x), textbook(layer, x)

    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), learnt),
        torch.autograd.grad((expected * weight).sum(), learnt),
        rtol=1e-8,
        atol=1e-8,
    )


def test_training_touches_no_statistics() -> None:
    layer = norm()
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    layer(maps(4))
    torch.testing.assert_close(dict(layer.named_buffers()), before, rtol=0, atol=0)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_per_slice_is_instance_normalisation_whatever_rho_is(rho: float) -> None:
    layer = norm().eval()
    nn.init.constant_(layer.rho, rho)
    set_statistics(layer, "per_slice")
    x = maps(4)
    expected = instance_norm(x, weight=layer.gamma, bias=layer.beta, eps=layer.eps)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)


def test_with_one_image_training_and_per_slice_agree() -> None:
    layer, x = norm(), maps(1)
    set_statistics(layer, "per_slice")
    torch.testing.assert_close(layer.train()(x), layer.eval()(x), rtol=0, atol=1e-10)


def test_frozen_is_the_textbook_form_with_the_kept_statistics() -> None:
    layer, x = norm().eval(), maps(2)
    mean, batch, instance, rho, gamma, beta = (
        t[:, None, None]
        for t in (
            layer.mean,
            layer.batch_variance,
            layer.instance_variance,
            layer.rho,
            layer.gamma,
            layer.beta,
        )
    )
    by_batch = (x - mean) / torch.sqrt(batch + layer.eps)
    by_instance = (x - mean) / torch.sqrt(instance + layer.eps)
    expected = (rho * by_batch + (1 - rho) * by_instance) * gamma + beta
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
def test_a_slice_has_one_result_alone_and_in_any_batch(statistics: str) -> None:
    layer = norm().float().eval()
    set_statistics(layer, statistics)
    x = maps(5).float()
    together = layer(x)
    for index in range(5):
        assert torch.equal(layer(x[index : index + 1])[0], together[index])
    assert torch.equal(layer(x.flip(0)).flip(0), together)


def test_in_training_neighbours_do_matter() -> None:
    layer, x = norm(), maps(2)
    assert (layer(x)[:1] - layer(x[:1])).abs().max() > 0.01


def test_frozen_tiles_are_the_whole() -> None:
    layer, x = norm().eval(), maps(2, rows=6, columns=6)
    tiles = torch.cat([layer(x[..., :3]), layer(x[..., 3:])], dim=-1)
    assert torch.equal(tiles, layer(x))


def test_gathered_statistics_are_means_over_the_batches() -> None:
    layer = norm().eval()
    batches = [maps(4), maps(4) * 3 + 1, maps(4) - 2]

    gather_statistics(layer, batches)

    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in batches])
    batch_variances = torch.stack([x.var(dim=(0, 2, 3), unbiased=False) for x in batches])
    instance_variances = torch.stack([x.var(dim=(2, 3), unbiased=False).mean(dim=0) for x in batches])
    torch.testing.assert_close(layer.mean, means.mean(dim=0))
    torch.testing.assert_close(layer.batch_variance, batch_variances.mean(dim=0))
    torch.testing.assert_close(layer.instance_variance, instance_variances.mean(dim=0))
    assert layer.batches == 3


def test_gathering_starts_afresh_each_time_and_leaves_flags_alone() -> None:
    layer = norm().eval()
    gather_statistics(layer, [maps(4) + 50])
    gather_statistics(layer, [batch := maps(4)])
    torch.testing.assert_close(layer.mean, batch.mean(dim=(0, 2, 3)))
    assert not layer.training
    assert not layer.gathering
    assert not layer(batch.requires_grad_()).isnan().any()


def test_gathering_feeds_each_layer_what_training_feeds_it() -> None:
    first, second = norm(1), norm(2)
    network = nn.Sequential(first, nn.LeakyReLU(0.2), second)
    x = maps(4)
    seen = nn.functional.leaky_relu(textbook(first, x), 0.2)
    gather_statistics(network.eval(), [x])
    torch.testing.assert_close(second.mean, seen.mean(dim=(0, 2, 3)))


def test_after_gathering_one_batch_with_rho_one_frozen_equals_training() -> None:
    layer, x = norm(), maps(4)
    nn.init.ones_(layer.rho)
    expected = layer(x)
    gather_statistics(layer, [x])
    torch.testing.assert_close(layer.eval()(x), expected, rtol=0, atol=1e-10)


def test_a_failing_network_is_not_left_gathering() -> None:
    layer = norm()
    with pytest.raises(RuntimeError):
        gather_statistics(layer, [torch.zeros(1, CHANNELS + 1, 2, 2)])
    assert not layer.gathering


def test_projection_puts_rho_back_and_nothing_else() -> None:
    layer = norm()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    rho = torch.tensor([-0.5, 0.25, 1.5], dtype=torch.float64)
    with torch.no_grad():
        layer.rho.copy_(rho)
    project_rho(nn.Sequential(nn.Sequential(layer)))
    assert layer.rho.tolist() == [0, 0.25, 1]
    assert layer.rho.requires_grad
    for name, tensor in layer.state_dict().items():
        assert name == "rho" or torch.equal(tensor, before[name])


@pytest.mark.parametrize("mode", ["training", "per_slice"])
def test_the_instance_part_of_a_1x1_map_is_zero(mode: str) -> None:
    layer, x = norm(), maps(2, rows=1, columns=1)
    layer.train(mode == "training")
    set_statistics(layer, "frozen" if mode == "training" else mode)
    nn.init.zeros_(layer.rho)
    expected = layer.beta[None, :, None, None].expand(2, CHANNELS, 1, 1)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_words_that_are_no_statistics_are_refused_before_anything_changes() -> None:
    network = nn.Sequential(norm(), norm())
    with pytest.raises(ConfigRefusal, match="statistics='batch'; allowed: frozen or per_slice"):
        set_statistics(network, "batch")
    assert [layer.statistics for layer in normalisations(network)] == ["frozen", "frozen"]
    set_statistics(network, "per_slice")
    assert [layer.statistics for layer in normalisations(network)] == ["per_slice", "per_slice"]


def test_a_network_without_normalisation_is_not_run() -> None:
    class NeverRun(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    gather_statistics(NeverRun(), [torch.zeros(1, 1, 16, 16)])
