from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import SGD, Optimizer, RAdam

from iscl_monai.training.optim import LinearDecay, LookaheadRAdam

STEPS = 13


def start() -> list[nn.Parameter]:
    source = torch.Generator().manual_seed(3)
    shapes = [(4, 3), (5,)]
    return [nn.Parameter(torch.randn(shape, generator=source, dtype=torch.float64)) for shape in shapes]


def gradients(step: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=source, dtype=torch.float64) + 0.5 for shape in ((4, 3), (5,))]


def take(optimizer: Optimizer, parameters: Sequence[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(parameters, gradients(step), strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


def literal(steps: int, *, sync_period: int, slow_step: float, lr: float) -> list[Tensor]:
    """Lookahead as its paper writes it, around a RAdam that knows nothing of it."""
    fast = start()
    slow = [p.detach().clone() for p in fast]
    inner = RAdam(fast, lr=lr)
    for step in range(1, steps + 1):
        take(inner, fast, range(step, step + 1))
        if step % sync_period == 0:
            for index, parameter in enumerate(fast):
                slow[index] = slow[index] + slow_step * (parameter.detach() - slow[index])
                parameter.data = slow[index].clone()
    return [p.detach() for p in fast]


@pytest.mark.parametrize(("sync_period", "slow_step"), [(6, 0.5), (4, 0.25), (1, 0.5)])
def test_lookahead_is_the_literal_one(sync_period: int, slow_step: float) -> None:
    parameters = start()
    optimizer = LookaheadRAdam(parameters, lr=0.05, sync_period=sync_period, slow_step=slow_step)
    take(optimizer, parameters, range(1, STEPS + 1))
    expected = literal(STEPS, sync_period=sync_period, slow_step=slow_step, lr=0.05)
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=0, atol=1e-12)


def test_defaults_are_the_authors() -> None:
    parameters = start()
    take(LookaheadRAdam(parameters, lr=0.05), parameters, range(1, STEPS + 1))
    expected = literal(STEPS, sync_period=6, slow_step=0.5, lr=0.05)
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=0, atol=1e-12)


def test_before_the_first_pull_it_is_radam() -> None:
    ours, theirs = start(), start()
    take(LookaheadRAdam(ours, lr=0.05), ours, range(1, 6))
    take(RAdam(theirs, lr=0.05), theirs, range(1, 6))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("stop", [3, 6, 8])
def test_a_saved_state_continues_identically(stop: int) -> None:
    parameters = start()
    optimizer = LookaheadRAdam(parameters, lr=0.05, sync_period=4, slow_step=0.3)
    take(optimizer, parameters, range(1, stop + 1))
    state = copy.deepcopy(optimizer.state_dict())
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]

    take(optimizer, parameters, range(stop + 1, STEPS + 1))
    # The defaults here differ on purpose: the state carries its own.
    other = LookaheadRAdam(resumed, lr=1e-4)
    other.load_state_dict(state)
    take(other, resumed, range(stop + 1, STEPS + 1))

    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))


def test_a_parameter_that_joins_late_starts_its_own_count() -> None:
    late, alone = start()[0], start()[0]
    optimizer = LookaheadRAdam([early := start()[1]], lr=0.05, sync_period=3)
    for step in range(1, STEPS + 1):
        if step == 3:
            optimizer.add_param_group({"params": [late]})
        early.grad = gradients(step)[1]
        late.grad = gradients(step)[0]
        optimizer.step()
    joined = LookaheadRAdam([alone], lr=0.05, sync_period=3)
    for step in range(3, STEPS + 1):
        alone.grad = gradients(step)[0]
        joined.step()
    assert torch.equal(late, alone)


def test_a_parameter_without_gradient_stays() -> None:
    parameters = start()
    optimizer = LookaheadRAdam(parameters, lr=0.05, sync_period=2)
    for step in range(1, 5):
        parameters[0].grad = gradients(step)[0]
        optimizer.step()
    assert torch.equal(parameters[1], start()[1])


def test_a_closure_computes_the_loss_and_changes_nothing_else() -> None:
    with_closure, without = start(), start()
    optimizer, other = LookaheadRAdam(with_closure, sync_period=2), LookaheadRAdam(without, sync_period=2)

    def loss(parameters: Sequence[nn.Parameter]) -> Tensor:
        return torch.stack([p.square().sum() for p in parameters]).sum()

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(with_closure)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    for _ in range(5):
        expected = loss(without)
        other.zero_grad()
        expected.backward()  # type: ignore[no-untyped-call]
        assert other.step() is None
        assert optimizer.step(closure) == expected.item()
    assert all(torch.equal(a, b) for a, b in zip(with_closure, without, strict=True))


def rates(optimizers: Sequence[Optimizer], decay: LinearDecay, *, first: int = 1) -> dict[int, list[float]]:
    """Learning rates that a real engine's iterations see: 4 epochs of 5 iterations."""
    seen: dict[int, list[float]] = {}

    def iteration(engine: Engine, batch: object) -> None:
        seen[engine.state.iteration] = [group["lr"] for o in optimizers for group in o.param_groups]

    engine = Engine(iteration)
    decay.attach(engine)
    if first > 1:
        engine.load_state_dict({"iteration": first - 1, "max_epochs": 4, "epoch_length": 5})
    engine.run(range(5), max_epochs=4, epoch_length=5)
    return seen


def optimizers_of_two_rates() -> list[SGD]:
    (one, two), (three, _) = start(), start()
    groups: list[dict[str, Any]] = [{"params": [one]}, {"params": [two], "lr": 0.5}]
    return [SGD(groups, lr=1.0), SGD([three], lr=0.25)]


def test_learning_rates_fall_on_straight_lines() -> None:
    optimizers = optimizers_of_two_rates()
    seen = rates(optimizers, LinearDecay(optimizers, final=0.1))
    assert list(seen) == list(range(1, 21))
    # start + (0.1 - start) * (iteration - 1) / 20
    assert seen[1] == [1.0, 0.5, 0.25]
    assert seen[11] == pytest.approx([0.55, 0.3, 0.175])
    assert seen[20] == pytest.approx([0.145, 0.12, 0.1075])


def test_the_default_end_is_the_authors() -> None:
    optimizer = SGD(start(), lr=1e-4)
    # 1e-4 + (1e-7 - 1e-4) * 19 / 20
    assert rates([optimizer], LinearDecay([optimizer]))[20] == pytest.approx([5.095e-6])


def test_a_resumed_run_is_on_the_same_line_whatever_rate_the_optimiser_was_saved_with() -> None:
    optimizers = optimizers_of_two_rates()
    whole = rates(optimizers, LinearDecay(optimizers))
    again = optimizers_of_two_rates()
    decay = LinearDecay(again)
    for optimizer, saved in zip(again, optimizers, strict=True):
        optimizer.load_state_dict(saved.state_dict())
    assert rates(again, decay, first=11) == {n: whole[n] for n in range(11, 21)}


def test_rates_are_set_before_the_step_of_their_iteration() -> None:
    engine = Engine(lambda engine, batch: None)
    optimizer = SGD(start(), lr=1.0)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: None)
    decay = LinearDecay([optimizer])
    decay.attach(engine)
    assert engine.has_event_handler(decay, Events.ITERATION_STARTED)
