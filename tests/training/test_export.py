"""The deployed denoiser: the mean of the weights, statistics of now, and the blend that errs least."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor, gather_statistics
from iscl_monai.networks.normalization import normalisations
from iscl_monai.training import Export, WeightAveraging, best_blend


def generator() -> Generator:
    return Generator(width=2, downsamplings=1, residual_blocks=1)


def extractor() -> NoiseExtractor:
    return NoiseExtractor(width=2, layers=3)


def deployed(**options: Any) -> DenoisingNetwork:
    window = HUWindow(-1000, 1000)
    return DenoisingNetwork(denoiser=generator(), noise_extractor=extractor(), hu_window=window, **options)


class Patches:
    """A row of noisy patches, each from its number."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(index % 2**31)
        return {"noisy": torch.rand(1, 16, 16, generator=random) * 2 - 1}


def raw() -> dict[str, nn.Module]:
    return {"denoiser": generator(), "degrader": generator(), "noise_extractor": extractor()}


def shaken(networks: dict[str, nn.Module], averaging: WeightAveraging, epochs: int, length: int) -> list[Any]:
    """Run with random weights after every iteration; returns those of all iterations."""
    seen: list[Any] = []

    def shake(engine: Engine, batch: Any) -> None:
        for network in networks.values():
            for parameter in network.parameters():
                nn.init.normal_(parameter)
        seen.append(copy.deepcopy({name: network.state_dict() for name, network in networks.items()}))

    engine = Engine(shake)
    averaging.attach(engine)
    engine.run(range(length), max_epochs=epochs, epoch_length=length)
    return seen


@pytest.mark.parametrize(("start", "first"), [(0.6, 6), (0.0, 0), (0.5, 5), (0.95, 9)])
def test_the_average_is_the_mean_of_the_last_share(start: float, first: int) -> None:
    networks = raw()
    averaging = WeightAveraging(**networks, start=start)
    seen = shaken(networks, averaging, epochs=2, length=5)
    for name, network in networks.items():
        for key, parameter in averaging.best(name).named_parameters():
            mean = torch.stack([state[name][key] for state in seen[first:]]).mean(0)
            torch.testing.assert_close(parameter, mean)
        assert averaging.best(name) is not network


def test_before_its_share_the_raw_networks_stand_in() -> None:
    networks = raw()
    averaging = WeightAveraging(**networks, start=1.0)
    shaken(networks, averaging, epochs=1, length=4)
    assert not averaging.begun
    assert all(averaging.best(name) is network for name, network in networks.items())


def test_an_average_continues_where_it_was_saved() -> None:
    networks = raw()
    whole, half = (WeightAveraging(**networks, start=0.0) for _ in range(2))
    state: dict[str, Any] = {}

    def halfway(engine: Engine) -> None:
        half(engine)
        if engine.state.iteration == 2:
            state.update(copy.deepcopy(half.state_dict()))

    def later(engine: Engine) -> None:
        if engine.state.iteration > 2:
            continued(engine)

    def shake(engine: Engine, batch: Any) -> None:
        if engine.state.iteration == 3:
            continued.load_state_dict(state)
        for network in networks.values():
            nn.init.normal_(next(network.parameters()))

    continued = WeightAveraging(**networks, start=0.0)
    engine = Engine(shake)
    for handler in (whole, halfway, later):
        engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
    engine.run(range(4))
    for one, other in zip(whole.best("denoiser").parameters(), continued.best("denoiser").parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_share_beyond_the_run_is_refused() -> None:
    with pytest.raises(ConfigRefusal, match=r"averaging start=1\.5"):
        WeightAveraging(**raw(), start=1.5)


# --- export ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaged", [True, False])
def test_weights_are_copied_and_statistics_gathered(averaged: bool) -> None:
    networks = raw()
    averaging = WeightAveraging(**networks, start=0.0)
    shaken(networks, averaging, epochs=1, length=3)
    network = deployed()
    patches: Any = Patches()
    export = Export(network=network, averaging=averaging, patches=patches, batch_size=2, batches=3, averaged=averaged)
    assert export.refresh() is network
    assert not network.training

    batches = [torch.stack([patches[2**40 + 2 * b + i]["noisy"] for i in (0, 1)]) for b in range(3)]
    for name in ("denoiser", "noise_extractor"):
        expected = copy.deepcopy(averaging.best(name) if averaged else networks[name])
        gather_statistics(expected, batches)
        result = getattr(network, name).state_dict()
        assert result.keys() == expected.state_dict().keys()
        assert all(torch.equal(result[key], value) for key, value in expected.state_dict().items())
        assert all(int(norm.batches) == 3 for norm in normalisations(getattr(network, name)))
    # The networks in training are only looked at.
    assert all(int(norm.batches) == 0 for norm in normalisations(networks["denoiser"]))
    assert float(network.blend) == 0.5


def test_refreshing_twice_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    averaging = WeightAveraging(**raw())
    export = Export(network=deployed(), averaging=averaging, patches=Patches(), batch_size=2, batches=2)  # type: ignore[arg-type]
    once = copy.deepcopy(export.refresh().state_dict())
    again = export.refresh().state_dict()
    assert all(torch.equal(once[key], again[key]) for key in once)


@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
def test_the_way_of_normalising_survives_the_export(statistics: str) -> None:
    """Frozen: an image answers as it does elsewhere. Per slice: its own mean and contrast do not matter."""
    network = deployed(statistics=statistics, mode="generator", keep_mean_px=0)
    averaging = WeightAveraging(**raw())
    Export(network=network, averaging=averaging, patches=Patches(), batch_size=2, batches=2).refresh()  # type: ignore[arg-type]
    assert {norm.statistics for norm in normalisations(network)} == {statistics}
    x = torch.rand(1, 1, 16, 16) - 0.5
    with torch.no_grad():
        same = torch.allclose(network(x), network(0.5 * x + 0.2), atol=1e-3)
    assert same == (statistics == "per_slice")


def test_it_refreshes_after_every_epoch() -> None:
    networks = raw()
    network = deployed()
    patches: Any = Patches()
    engine = Engine(lambda engine, batch: nn.init.normal_(next(networks["denoiser"].parameters())))
    averaging = WeightAveraging(**networks, start=1.0)
    Export(network=network, averaging=averaging, patches=patches, batch_size=2, batches=1).attach(engine)
    same: list[bool] = []

    @engine.on(Events.EPOCH_COMPLETED)
    def compare() -> None:
        pair = next(networks["denoiser"].parameters()), next(network.denoiser.parameters())
        same.append(torch.equal(*pair))

    engine.run(range(2), max_epochs=2)
    assert same == [True, True]


# --- the blend ---------------------------------------------------------------------------------------


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return x * self.factor


def simple(generator_factor: float, noise_factor: float) -> DenoisingNetwork:
    """F(x) = a x and H(x) = b x."""
    network = deployed().eval()
    network.denoiser = Times(generator_factor)  # type: ignore[assignment]
    network.noise_extractor = Times(noise_factor)  # type: ignore[assignment]
    return network


def pairs(factor: float, noise: float = 0.1) -> list[dict[str, Tensor]]:
    made = []
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        x = torch.rand(1, 12, 12, generator=random) - 0.5
        clean = factor * x + noise * torch.randn(1, 12, 12, generator=random)
        body = torch.zeros(1, 12, 12, dtype=torch.bool)
        body[:, 3:9, 2:11] = True
        clean[~body] = 0.9  # outside anything may stand
        made.append({"noisy": x, "clean": clean, "body": body})
    return made


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.3, 0.62, 0.85, 0.05, 0.99])
def test_the_blend_is_the_best_of_a_grid(factor: float) -> None:
    """F gives 0.9 x and x - H 0.2 x, so the blend is near (factor - 0.2) / 0.7, or at an end."""
    network, made = simple(0.9, 0.8), pairs(factor)
    found = best_blend(network, made)
    assert found is not None

    def error(blend: float) -> float:
        network.blend.fill_(blend)
        return sum(float((network(p["noisy"][None])[0] - p["clean"])[p["body"]].square().sum()) for p in made)

    grid = [step / 200 for step in range(201)]
    best = min(grid, key=error)
    assert abs(found - best) <= 1 / 200
    if 0.05 < best < 0.95:
        assert error(found) <= error(best)


def test_nothing_to_choose_by_is_no_choice() -> None:
    assert best_blend(simple(0.9, 0.8), []) is None
    assert best_blend(simple(0.9, 0.8), [{"noisy": pairs(1)[0]["noisy"], "body": pairs(1)[0]["body"]}]) is None
    assert best_blend(simple(0.5, 0.5), pairs(1)) is None


def test_the_export_chooses_the_blend() -> None:
    networks = raw()
    network = deployed()
    slices = [{**pair, "noisy": torch.rand(1, 16, 16)} for pair in pairs(1)]
    slices = [
        {"noisy": p["noisy"], "clean": p["noisy"], "body": torch.ones(1, 16, 16, dtype=torch.bool)} for p in slices
    ]
    averaging = WeightAveraging(**networks)
    Export(
        network=network,
        averaging=averaging,
        patches=Patches(),
        batch_size=2,
        batches=1,
        blend_slices=slices,  # type: ignore[arg-type]
    ).refresh()
    assert float(network.blend) == pytest.approx(best_blend(network, slices))
    assert float(network.blend) != 0.5
