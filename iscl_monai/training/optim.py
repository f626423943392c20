"""Optimisers and the learning-rate schedule of the authors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.optim import Optimizer, RAdam


class LookaheadRAdam(RAdam):
    """RAdam whose weights are pulled back every few steps (Lookahead, Zhang et al., NeurIPS 2019).

    The slow weights live in the optimiser's own per-parameter state, so ``state_dict`` carries them.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        sync_period: steps between two pulls; 6 in the authors' code.
        slow_step: how far the slow weights follow the fast ones at a pull; 0.5 in the authors' code.
        **radam: further arguments of :class:`torch.optim.RAdam`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        *,
        sync_period: int = 6,
        slow_step: float = 0.5,
        **radam: Any,
    ) -> None:
        super().__init__(params, lr=lr, **radam)
        self.defaults.update(sync_period=sync_period, slow_step=slow_step)
        for group in self.param_groups:
            group.setdefault("sync_period", sync_period)
            group.setdefault("slow_step", slow_step)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One RAdam step; at every ``sync_period``-th, pull the weights back."""
        # The first step must see where the slow weights start: before RAdam has moved anything.
        before = {p: p.detach().clone() for p in self._untracked(will_have_gradients=closure is not None)}
        loss: float | None = super().step(closure) if closure is not None else super().step()
        for parameter, slow in before.items():
            if parameter.grad is not None:
                self.state[parameter]["slow"] = slow
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter, {})
                if "slow" in state and int(state["step"]) % group["sync_period"] == 0:
                    state["slow"].lerp_(parameter, group["slow_step"])
                    parameter.copy_(state["slow"])
        return loss

    def _untracked(self, *, will_have_gradients: bool) -> list[Tensor]:
        parameters = (p for group in self.param_groups for p in group["params"])
        moving = (p for p in parameters if will_have_gradients or p.grad is not None)
        return [p for p in moving if "slow" not in self.state.get(p, {})]


class LinearDecay:
    """Learning rate falling on a straight line over the whole run, from the optimiser's own to ``final``.

    A pure function of the iteration number: nothing to save, and a resumed run continues on the same line.

    Args:
        optimizers: their ``lr`` at construction is the start of the line.
        final: learning rate after the last iteration; 1e-7 in the authors' code.
    """

    def __init__(self, optimizers: Iterable[Optimizer], *, final: float = 1e-7) -> None:
        self.final = final
        self.optimizers = list(optimizers)
        self.initial = [[float(group["lr"]) for group in o.param_groups] for o in self.optimizers]

    def attach(self, engine: Engine) -> None:
        """Set the learning rates at the start of every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the learning rates for the engine's current iteration (counted from 1)."""
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        done = (engine.state.iteration - 1) / total
        for optimizer, initial in zip(self.optimizers, self.initial, strict=True):
            for group, start in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = start + (self.final - start) * done
