from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor

from iscl_monai.errors import (
    ContrastInverted,
    DiscriminatorStuck,
    HounsfieldDrift,
    IdentityTrap,
    NonFiniteLoss,
    OutputCollapsed,
    TrainingStopped,
)
from iscl_monai.hu import HUWindow
from iscl_monai.training.guard import CollapseGuard, GuardLimits

PATIENCE = 5


def anatomy() -> Tensor:
    """Two squares on a ramp, in [-0.8, 0.7]."""
    image = torch.linspace(-0.8, -0.4, 32).repeat(2, 1, 32, 1)
    image[..., 8:24, 8:20] = 0.2
    image[..., 12:16, 22:28] = 0.7
    return image


def noise() -> Tensor:
    return 0.1 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def healthy() -> dict[str, float | Tensor]:
    x = anatomy() + noise()
    return {
        "noisy_discriminator": 0.8,
        "clean_discriminator": 0.7,
        "cycle": 0.1,
        "x": x,
        "y_hat": anatomy() + 0.3 * noise(),
        "n_hat": 0.7 * noise(),
    }


def sick(kind: type[TrainingStopped]) -> dict[str, float | Tensor]:
    output = healthy()
    x, y_hat = output["x"], output["y_hat"]
    assert isinstance(x, Tensor)
    assert isinstance(y_hat, Tensor)
    changed: dict[type[TrainingStopped], dict[str, float | Tensor]] = {
        # About its mean, so that nothing but the sign of the contrast changes.
        ContrastInverted: {"y_hat": 2 * y_hat.mean() - y_hat},
        OutputCollapsed: {"y_hat": y_hat.mean() + 0.1 * (y_hat - y_hat.mean())},
        HounsfieldDrift: {"y_hat": y_hat + 0.2 + (x - y_hat).mean()},
        IdentityTrap: {"y_hat": x - 0.02 * noise()},
        DiscriminatorStuck: {"noisy_discriminator": 1e-4, "clean_discriminator": 0.0},
    }
    return output | changed[kind]


KINDS = [ContrastInverted, OutputCollapsed, HounsfieldDrift, IdentityTrap, DiscriminatorStuck]


def watch(outputs: list[dict[str, float | Tensor]], **arguments: Any) -> int:
    """Run a real engine whose iterations give these outputs; return how many it did."""
    limits = GuardLimits(**{"patience": PATIENCE, **arguments.pop("limits", {})})
    engine = Engine(lambda engine, batch: batch)
    CollapseGuard(hu_window=HUWindow(-1000, 1000), limits=limits, **arguments).attach(engine)
    engine.run(outputs, max_epochs=1)
    return engine.state.iteration


def test_a_healthy_training_goes_on() -> None:
    assert watch([healthy()] * (3 * PATIENCE)) == 3 * PATIENCE


def test_the_teacher_that_removes_all_noise_is_healthy() -> None:
    assert watch([healthy() | {"y_hat": anatomy()}] * PATIENCE) == PATIENCE


def test_an_identity_that_lightens_is_no_identity() -> None:
    output = healthy()
    assert isinstance(output["x"], Tensor)
    assert watch([output | {"y_hat": output["x"] + 0.1}] * PATIENCE) == PATIENCE


def test_a_warm_up_without_discriminators_is_healthy() -> None:
    output = healthy()
    del output["noisy_discriminator"], output["clean_discriminator"]
    assert watch([output] * PATIENCE) == PATIENCE


def test_one_discriminator_may_win() -> None:
    assert watch([healthy() | {"clean_discriminator": 0.0}] * PATIENCE) == PATIENCE


@pytest.mark.parametrize("kind", KINDS)
def test_each_sickness_alone_stops_by_its_own_name_and_after_patience(kind: type[TrainingStopped]) -> None:
    with pytest.raises(TrainingStopped, match=f"for {PATIENCE} iterations up to {PATIENCE + 2}") as stop:
        watch([healthy(), healthy(), *[sick(kind)] * PATIENCE])
    assert type(stop.value) is kind
    assert watch([sick(kind)] * (PATIENCE - 1)) == PATIENCE - 1


@pytest.mark.parametrize("kind", KINDS)
def test_one_healthy_iteration_forgives(kind: type[TrainingStopped]) -> None:
    almost = [sick(kind)] * (PATIENCE - 1)
    assert watch([*almost, healthy(), *almost]) == 2 * PATIENCE - 1


def test_different_sicknesses_do_not_add_up() -> None:
    half = PATIENCE // 2 + 1
    assert watch([sick(HounsfieldDrift)] * half + [sick(IdentityTrap)] * half) == 2 * half


@pytest.mark.parametrize(
    ("kind", "said"), [(HounsfieldDrift, "by 200 HU"), (IdentityTrap, r"changes x by only \d\.\d% of")]
)
def test_the_reason_says_how_much(kind: type[TrainingStopped], said: str) -> None:
    with pytest.raises(kind, match=said):
        watch([sick(kind)] * PATIENCE)


def test_drift_is_told_in_hu_of_the_window_and_in_both_directions() -> None:
    output = healthy()
    x = output["x"]
    assert isinstance(x, Tensor)
    for shift, drifts in ((-0.2, True), (-0.14, False), (0.14, False)):
        outputs = [output | {"y_hat": anatomy() + (x - anatomy()).mean() + shift}] * PATIENCE
        if drifts:
            with pytest.raises(HounsfieldDrift, match="by -200 HU"):
                watch(outputs)
        else:
            assert watch(outputs) == PATIENCE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("first_iteration", [0, 100])
def test_a_loss_that_is_no_number_stops_at_once_even_in_the_warm_up(value: float, first_iteration: int) -> None:
    with pytest.raises(NonFiniteLoss, match=r"cycle is -?(nan|inf) at iteration 3"):
        watch([healthy()] * 2 + [healthy() | {"cycle": value}], first_iteration=first_iteration)


@pytest.mark.parametrize("kind", KINDS)
def test_the_warm_up_is_not_watched(kind: type[TrainingStopped]) -> None:
    outputs = [sick(kind)] * (7 + PATIENCE)
    assert watch(outputs[:-1], first_iteration=7) == 7 + PATIENCE - 1
    with pytest.raises(kind, match=f"up to {7 + PATIENCE}"):
        watch(outputs, first_iteration=7)


def test_limits_are_what_decides() -> None:
    generous = {
        "least_correlation": -1.1,
        "least_spread": 0.0,
        "greatest_drift_hu": 1e6,
        "least_change": 0.0,
        "least_discriminator_loss": -1.0,
    }
    for kind in KINDS:
        assert watch([sick(kind)] * PATIENCE, limits=generous) == PATIENCE


def test_flat_input_does_not_divide_by_zero() -> None:
    flat = torch.zeros(2, 1, 32, 32)
    with pytest.raises(TrainingStopped):
        watch([healthy() | {"x": flat, "y_hat": flat}] * PATIENCE)


def test_half_precision_images_are_fine() -> None:
    output = {name: value.bfloat16() if isinstance(value, Tensor) else value for name, value in healthy().items()}
    assert watch([output] * PATIENCE) == PATIENCE
