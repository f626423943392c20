"""Watches a training for the known ways in which it goes wrong, and stops it by name."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine, Events
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


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """What is still healthy. Every limit must be broken ``patience`` iterations in a row before the training stops.

    Args:
        patience: iterations in a row.
        least_correlation: of F(x) with x over the batch; below it bright and dark are being swapped.
        least_spread: standard deviation of F(x) over that of x.
        greatest_drift_hu: mean of F(x) - x, in HU or the unit of another domain.
        least_change: root mean square of x - F(x), over that of the fine detail of x (which is mostly noise).
        least_discriminator_loss: hinge loss of both discriminators; below it they tell everything apart.
        unit: of the drift.
    """

    patience: int = 200
    least_correlation: float = 0.2
    least_spread: float = 0.2
    greatest_drift_hu: float = 150.0
    least_change: float = 0.05
    least_discriminator_loss: float = 1e-3
    unit: str = "HU"


class CollapseGuard:
    """Stops a training that became non-finite, inverted, flat, drifting, or stuck at the identity.

    Args:
        hu_window: to speak of drift in HU.
        limits: what is still healthy.
        first_iteration: watch from here on (the warm-up has its own ways).

    Raises (while attached):
        TrainingStopped: one of its named kinds; checkpoints of earlier epochs are left as they are.
    """

    def __init__(self, *, hu_window: HUWindow, limits: GuardLimits | None = None, first_iteration: int = 0) -> None:
        self.hu_window = hu_window
        self.limits = limits or GuardLimits()
        self.first_iteration = first_iteration
        self.in_a_row: Counter[type[TrainingStopped]] = Counter()

    def attach(self, engine: Engine) -> None:
        """Look at every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the output of one iteration."""
        output: Any = engine.state.output
        iteration = engine.state.iteration
        for name, value in output.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise NonFiniteLoss(f"{name} is {value} at iteration {iteration}: try a lower learning rate")
        if iteration > self.first_iteration:
            broken = self._broken(output)
            for kind in list(self.in_a_row):
                if kind not in broken:
                    del self.in_a_row[kind]
            for kind, reason in broken.items():
                self.in_a_row[kind] += 1
                if self.in_a_row[kind] >= self.limits.patience:
                    raise kind(f"{reason} for {self.limits.patience} iterations up to {iteration}")

    def _broken(self, output: dict[str, float | Tensor]) -> dict[type[TrainingStopped], str]:
        x, y_hat = output["x"], output["y_hat"]
        assert isinstance(x, Tensor)
        assert isinstance(y_hat, Tensor)
        limits, broken = self.limits, dict[type[TrainingStopped], str]()
        x, y_hat = x.float(), y_hat.float()
        if (correlation := _correlation(x, y_hat)) < limits.least_correlation:
            broken[ContrastInverted] = f"F(x) correlates with x by only {correlation:.2f}"
        if (spread := float(y_hat.std() / x.std().clamp_min(1e-6))) < limits.least_spread:
            broken[OutputCollapsed] = f"F(x) varies {spread:.2f} times as much as x"
        if abs(drift_hu := float((y_hat - x).mean()) * self.hu_window.half_width) > limits.greatest_drift_hu:
            broken[HounsfieldDrift] = f"F shifts the mean by {drift_hu:.0f} {limits.unit}"
        if (change := float((x - y_hat).square().mean().sqrt()) / max(_detail(x), 1e-6)) < limits.least_change:
            broken[IdentityTrap] = f"F changes x by only {change:.1%} of its fine detail"
        hinges = [output[key] for key in ("noisy_discriminator", "clean_discriminator") if key in output]
        if hinges and all(float(hinge) < limits.least_discriminator_loss for hinge in hinges):
            broken[DiscriminatorStuck] = "both discriminators tell everything apart"
        return broken


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))


def _detail(image: Tensor) -> float:
    """Root mean square of the second difference across diagonals: blind to edges along rows and columns."""
    mixed = image[..., 1:, 1:] - image[..., 1:, :-1] - image[..., :-1, 1:] + image[..., :-1, :-1]
    return float(torch.sqrt(mixed.square().mean()))
