"""The trainer, which computes F(x), G(y) and H(x) once, against the literal method, which recomputes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer, RAdam
from training.literal import (
    NAMES,
    Literal,
    batches,
    largest_difference,
    literally,
    networks,
    optimizers,
    parameters,
    trainer,
)

from iscl_monai.losses import LossWeights
from iscl_monai.networks.normalization import normalisations
from iscl_monai.training import LookaheadRAdam
from iscl_monai.training.batches import Batch, prepare_unpaired_batch
from iscl_monai.training.learning import frozen, unwrapped

ABLATIONS: list[dict[str, float]] = [
    {},
    {"bypass": 0.0},
    {"boosting": 0.0},
    {"noise_consistency": 0.0},
    {"bypass": 0.0, "boosting": 0.0, "noise_consistency": 0.0},
    {"bypass": 0.0, "boosting": 0.0, "pseudo_noise": 0.0, "noise_consistency": 0.0},  # CycleGAN
    {"cycle": 0.0},
    {"zero_mean": 2.0},
    {"nested": 7.0, "cycle": 1.5, "bypass": 0.5, "boosting": 0.25, "pseudo_noise": 2.0, "noise_consistency": 3.0},
]


def weights_and_steps() -> list[Any]:
    runs = [(1, ABLATIONS[0]), (3, ABLATIONS[0]), *((2, weights) for weights in ABLATIONS[1:])]
    names = [",".join(f"{term}={weight:g}" for term, weight in weights.items()) or "paper" for _, weights in runs]
    return [pytest.param(*run, id=f"{run[0]}-{name}") for run, name in zip(runs, names, strict=True)]


@pytest.mark.parametrize(("steps", "weights"), weights_and_steps())
def test_the_result_is_that_of_the_literal_order(steps: int, weights: dict[str, float]) -> None:
    data = batches(steps)
    ours, start = networks(), networks()
    trainer(ours, data, weights=LossWeights(**weights)).run()
    theirs = literally(networks(), data, kind=torch.optim.SGD, lr=1e-2, **weights)

    assert largest_difference(ours, theirs) < 1e-9
    for name in NAMES:
        learnt = largest_difference({name: ours[name]}, {name: start[name]})
        if name == "noise_extractor" and not LossWeights(**weights).use_extractor:
            assert learnt == 0
        else:
            assert learnt > 1e-4, f"{name} did not learn"


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_with_the_optimisers_of_the_authors_it_is_the_same(dtype: torch.dtype, atol: float) -> None:
    def lookahead(params: Any, lr: float) -> Optimizer:
        return LookaheadRAdam(params, lr=lr, sync_period=2)

    data = batches(3, dtype)
    ours = networks(dtype)
    trainer(ours, data, kind=lookahead, lr=1e-3).run()
    theirs = literally(networks(dtype), data, kind=lookahead, lr=1e-3)
    assert largest_difference(ours, theirs) < atol


@pytest.mark.parametrize("weights", ABLATIONS[1:4])
def test_each_ablation_matters(weights: dict[str, float]) -> None:
    """Else the comparison with the literal order would hold for a trainer that ignores its weights."""
    data = batches(1)
    whole, ablated = networks(), networks()
    trainer(whole, data).run()
    trainer(ablated, data, weights=LossWeights(**weights)).run()
    assert largest_difference(whole, ablated) > 1e-5


class Recorder(nn.Module):
    """A discriminator that notes the range of what it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.largest: list[float] = []
        self.spread: list[float] = []

    def forward(self, image: Tensor) -> Tensor:
        self.largest.append(image.abs().max().item())
        self.spread.append(image.std().item())
        logits: Tensor = self.network(image)
        return logits


class Louder(nn.Module):
    """A network with a skip, loud enough to leave the window."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = 3 * self.network(image) + image
        return result


@pytest.mark.parametrize("clip_fakes", [True, False])
def test_no_discriminator_can_win_by_the_range_of_fakes(clip_fakes: bool) -> None:
    """Real patches lie within the window; all that is shown as fake does, too."""
    made = networks()
    for name in NAMES[:3]:
        made[name] = Louder(made[name])
    for name in NAMES[3:]:
        made[name] = Recorder(made[name])
    trainer(made, batches(1), clip_fakes=clip_fakes).run()
    for name in NAMES[3:]:
        largest: Any = made[name].largest
        assert len(largest) == 4, "real, fake and boosting fake, then the generators' own"
        assert all(value <= 1 for value in largest) == clip_fakes
        assert sum(value > 1 for value in largest) == (0 if clip_fakes else 3)
        spread: Any = made[name].spread
        assert min(spread) > 0.1, "what is cut to the window keeps what lies inside it"


def test_an_iteration_returns_every_term_and_the_pictures_without_graphs() -> None:
    data, made = batches(1), networks()
    expected = copy.deepcopy(made)
    engine = trainer(made, data, weights=LossWeights(zero_mean=1.0))
    engine.run()
    output: Any = engine.state.output

    x, y = data[0]["noisy"], data[0]["clean"]
    y_hat, n_hat = expected["denoiser"](x), expected["noise_extractor"](x)
    assert torch.equal(output["x"], x)
    torch.testing.assert_close(output["y_hat"], y_hat.detach(), rtol=0, atol=0)
    torch.testing.assert_close(output["n_hat"], n_hat.detach(), rtol=0, atol=0)
    assert not any(output[name].requires_grad for name in ("x", "y_hat", "n_hat"))
    x_tilde, y_tilde = expected["degrader"](y_hat), expected["denoiser"](expected["degrader"](y))
    assert output["cycle"] == pytest.approx(((x - x_tilde).abs().mean() + (y - y_tilde).abs().mean()).item(), abs=1e-12)
    terms = {name for name, value in output.items() if isinstance(value, float)}
    assert terms == {
        "noisy_discriminator",
        "clean_discriminator",
        "boosting",
        "adversarial",
        "cycle",
        "bypass",
        "zero_mean",
        "pseudo_noise",
        "noise_consistency",
    }
    assert set(output) - terms == {"x", "y_hat", "n_hat"}


def test_terms_that_are_switched_off_are_not_returned() -> None:
    engine = trainer(networks(), batches(1), weights=LossWeights(bypass=0, boosting=0, noise_consistency=0))
    engine.run()
    output: Any = engine.state.output
    assert not {"bypass", "boosting", "noise_consistency", "zero_mean"} & set(output)


def test_the_warm_up_is_two_autoencoders_and_a_residual() -> None:
    data, ours, theirs = batches(2), networks(), networks()
    trainer(ours, data, warm_up_steps=2).run()

    f, g, h = (theirs[name] for name in NAMES[:3])
    of_generators, _, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    for batch in data:
        x, y = batch["noisy"], batch["clean"]
        left_out = (x - f(x)).detach()
        for optimizer, loss in (
            (of_generators, (f(x) - x).abs().mean() + (g(y) - y).abs().mean()),
            (of_extractor, (h(x) - left_out).abs().mean()),
        ):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for network in (f, g, h):
            for norm in normalisations(network):
                norm.rho.data = norm.rho.data.clip(0, 1)

    assert largest_difference(ours, theirs) < 1e-9


def test_the_warm_up_returns_the_pictures_too() -> None:
    data, made = batches(1), networks()
    y_hat, n_hat = made["denoiser"](data[0]["noisy"]).detach(), made["noise_extractor"](data[0]["noisy"]).detach()
    engine = trainer(made, data, warm_up_steps=1)
    engine.run()
    output: Any = engine.state.output
    assert set(output) == {"reconstruction", "pseudo_noise", "x", "y_hat", "n_hat"}
    assert torch.equal(output["x"], data[0]["noisy"])
    torch.testing.assert_close([output["y_hat"], output["n_hat"]], [y_hat, n_hat], rtol=0, atol=0)
    assert not any(output[name].requires_grad for name in ("x", "y_hat", "n_hat"))


def test_the_warm_up_leaves_discriminators_alone_and_then_ends() -> None:
    made, start = networks(), networks()
    engine = trainer(made, batches(3), warm_up_steps=2)
    moved: list[dict[str, float]] = []
    terms: list[set[str]] = []

    def look() -> None:
        output: Any = engine.state.output
        terms.append({name for name, value in output.items() if isinstance(value, float)})
        moved.append({name: largest_difference({name: made[name]}, {name: start[name]}) for name in NAMES})

    engine.add_event_handler(Events.ITERATION_COMPLETED, look)
    engine.run()

    assert terms[0] == terms[1] == {"reconstruction", "pseudo_noise"}
    assert "adversarial" in terms[2]
    for name in NAMES:
        assert moved[0][name] > 0 or "discriminator" in name
        assert moved[2][name] > 0
    assert moved[1]["noisy_discriminator"] == moved[1]["clean_discriminator"] == 0


def test_a_warm_up_may_leave_the_generators_alone() -> None:
    data, made, start = batches(2), networks(), networks()
    engine = trainer(made, data, warm_up_steps=2, warm_up_generators=False)
    engine.run()

    h = start["noise_extractor"]
    optimizer = torch.optim.SGD(h.parameters(), lr=1e-2)
    for batch in data:
        x = batch["noisy"]
        left_out = (x - start["denoiser"](x)).detach()
        optimizer.zero_grad()
        (h(x) - left_out).abs().mean().backward()
        optimizer.step()

    assert largest_difference(made, start) < 1e-9
    assert largest_difference({"": h}, {"": networks()["noise_extractor"]}) > 1e-4
    output: Any = engine.state.output
    assert {name for name, value in output.items() if isinstance(value, float)} == {"pseudo_noise"}


def test_a_warm_up_of_cyclegan_leaves_the_extractor_alone() -> None:
    made, start = networks(), networks()
    weights = LossWeights(bypass=0, boosting=0, pseudo_noise=0, noise_consistency=0)
    trainer(made, batches(1), warm_up_steps=1, weights=weights).run()
    assert largest_difference({"": made["noise_extractor"]}, {"": start["noise_extractor"]}) == 0
    assert largest_difference({"": made["denoiser"]}, {"": start["denoiser"]}) > 0


@pytest.mark.parametrize("warm_up_steps", [0, 1])
def test_without_the_extractor_the_noise_is_nothing(warm_up_steps: int) -> None:
    weights = LossWeights(bypass=0, boosting=0, pseudo_noise=0, noise_consistency=0)
    engine = trainer(networks(), batches(1), warm_up_steps=warm_up_steps, weights=weights)
    engine.run()
    output: Any = engine.state.output
    assert torch.equal(output["n_hat"], torch.zeros(2, 1, 64, 64, dtype=torch.float64))


class Attached:
    """A handler that notes what it was attached to."""

    engine: Engine | None = None

    def attach(self, engine: Engine) -> None:
        self.engine = engine


def test_the_engine_gets_its_settings() -> None:
    handler = Attached()
    calls: list[tuple[torch.device, bool]] = []

    def prepare(batch: Batch, device: torch.device, non_blocking: bool) -> tuple[Tensor, Tensor]:
        calls.append((device, non_blocking))
        return prepare_unpaired_batch(batch, device, non_blocking)

    data = batches(2)
    engine = trainer(
        networks(), data, epoch_length=1, non_blocking=True, prepare_batch=prepare, train_handlers=[handler]
    )
    assert handler.engine is engine
    engine.run()
    assert engine.state.max_epochs == engine.state.epoch == 1
    assert engine.state.epoch_length == engine.state.iteration == 1
    assert calls == [(torch.device("cpu"), True)]


def test_an_epoch_is_as_long_as_its_data_and_copies_block_by_default() -> None:
    engine = trainer(networks(), batches(2))
    engine.run()
    assert engine.state.iteration == 2
    assert engine.non_blocking is False
    assert (engine.autocast, engine.warm_up_steps, engine.warm_up_generators) == (False, 0, True)
    assert engine.weights == LossWeights()


def test_handlers_see_the_output_as_soon_as_the_networks_are_done() -> None:
    engine = trainer(networks(), batches(1))
    outputs: list[Any] = []
    engine.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda: outputs.append(engine.state.output))
    engine.run()
    assert len(outputs) == 1
    assert isinstance(outputs[0]["adversarial"], float)
    assert outputs[0] is engine.state.output


def test_a_network_is_taken_out_of_its_distributed_wrapper() -> None:
    network = nn.Linear(2, 1)
    assert unwrapped(network) is network
    wrapper = DistributedDataParallel.__new__(DistributedDataParallel)  # its own constructor wants other processes
    nn.Module.__init__(wrapper)
    wrapper.module = network
    assert unwrapped(wrapper) is network


def outside(network: nn.Module) -> bool:
    rho = torch.cat([norm.rho.detach() for norm in normalisations(network)])
    return bool(((rho < 0) | (rho > 1)).any())


@pytest.mark.parametrize("warm_up_steps", [0, 1])
def test_rho_of_all_five_stays_between_zero_and_one(warm_up_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left: dict[bool, set[str]] = {}
    for projected in (True, False):
        made = networks()
        for network in made.values():
            for norm in normalisations(network):
                norm.rho.data = norm.rho.data.round()  # each at one border or the other
        if not projected:
            monkeypatch.setattr("iscl_monai.training.trainer.project_rho", lambda *networks: None)
        trainer(made, batches(1), warm_up_steps=warm_up_steps).run()
        left[projected] = {name for name, network in made.items() if outside(network)}
    assert left[True] == set()
    assert left[False] == set(NAMES[: 3 if warm_up_steps else 5]), "nothing to project: the test shows nothing"


def test_frozen_networks_pass_gradients_on_and_collect_none() -> None:
    network, other = nn.Linear(2, 1), nn.Linear(2, 1)
    image = torch.rand(3, 2, requires_grad=True)
    with frozen(network, other):
        loss = (network(image) + other(image)).sum()
    loss.backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*network.parameters(), *other.parameters()])


def test_freezing_ends_as_it_began_even_after_an_error() -> None:
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)

    def fail() -> None:
        with frozen(network):
            assert not any(p.requires_grad for p in network.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_the_generators_step_leaves_no_gradient_in_the_discriminators() -> None:
    data, made, alone = batches(1), networks(), networks()
    trainer(made, data).run()
    f, g, h, d_x, d_y = alone.values()
    Literal(f, g, h, d_x, d_y).discriminators(data[0]["noisy"], data[0]["clean"]).backward()
    for name in NAMES[3:]:
        ours, theirs = ([p.grad for p in which[name].parameters()] for which in (made, alone))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_after_an_iteration_every_network_may_learn_again() -> None:
    made = networks()
    trainer(made, batches(1)).run()
    assert all(p.requires_grad for network in made.values() for p in network.parameters())


@pytest.mark.parametrize("warm_up_steps", [0, 2])
def test_bfloat16_runs_and_keeps_float32_weights(warm_up_steps: int) -> None:
    data, made = batches(2, torch.float32), networks(torch.float32)
    start = networks(torch.float32)
    seen: list[torch.dtype] = []
    conv = next(m for m in made["denoiser"].modules() if isinstance(m, nn.Conv2d))
    conv.register_forward_hook(lambda module, image, out: seen.append(out.dtype))

    engine = trainer(made, data, kind=RAdam, amp=True, warm_up_steps=warm_up_steps)
    engine.run()

    assert set(seen) == {torch.bfloat16}
    for parameter in parameters(made).values():
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all()
    assert largest_difference(made, start) > 0
    output: Any = engine.state.output
    assert all(torch.as_tensor(value).isfinite().all() for value in output.values())


def test_without_amp_nothing_is_rounded_to_bfloat16() -> None:
    made = networks(torch.float32)
    conv = next(m for m in made["denoiser"].modules() if isinstance(m, nn.Conv2d))
    seen: list[torch.dtype] = []
    conv.register_forward_hook(lambda module, image, out: seen.append(out.dtype))
    trainer(made, batches(1, torch.float32)).run()
    assert set(seen) == {torch.float32}


def test_an_unpaired_batch_is_noisy_then_clean() -> None:
    noisy, clean = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    batch = {"clean": clean, "patient": torch.zeros(2), "noisy": noisy}
    x, y = prepare_unpaired_batch(batch, "cpu", False)
    assert torch.equal(x, noisy)
    assert torch.equal(y, clean)
    x, y = prepare_unpaired_batch(batch, torch.device("cpu"), dtype=torch.float64)
    assert x.dtype == y.dtype == torch.float64
    with pytest.raises(KeyError, match="clean"):
        prepare_unpaired_batch({"noisy": noisy})
