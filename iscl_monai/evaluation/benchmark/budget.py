"""How long every learned method is trained: the same number of steps for all."""

from __future__ import annotations

import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iscl_monai.errors import ConfigRefusal

EPOCHS = 5
"""Validations per run; the best of them becomes model.pt, for each method alike."""
PROBED_STEPS = 8
SHARE_FOR_STEPS = 0.9
"""Of the minutes; the rest goes to reading scans and to validation."""
LONGEST_WARM_UP = 0.4
MINUTES = "min"


def steps_of(budget: str, configs: Sequence[str], settings: Mapping[str, Any]) -> int:
    """Steps for all methods: as given, or as many as ISCL makes in the minutes given.

    Minutes are turned into steps once, with ISCL on this machine; others are given the same steps, be they faster or
    slower, since a comparison over minutes would compare implementations.

    Args:
        budget: ``500steps`` or ``20min``.
        configs: of the bundle's training.
        settings: overrides.

    Returns:
        A multiple of 5.

    Raises:
        ConfigRefusal: if the budget is neither, or too small for a step an epoch.
    """
    amount, unit = _read(budget)
    if unit == MINUTES:
        amount = SHARE_FOR_STEPS * amount * 60 / seconds_per_step(configs, settings)
    return _whole_epochs(budget, amount)


def given_steps(budget: str) -> int | None:
    """Steps of a budget that gives steps; None of one that gives minutes, before a step is timed.

    Raises:
        ConfigRefusal: as :func:`steps_of`.
    """
    amount, unit = _read(budget)
    return None if unit == MINUTES else _whole_epochs(budget, amount)


def _read(budget: str) -> tuple[float, str]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(steps?|min(?:utes?)?)", budget.strip())
    if match is None:
        raise ConfigRefusal(f"--budget {budget}", allowed="such as 500steps or 20min", cure="write the unit")
    return float(match[1]), MINUTES if match[2].startswith("min") else "steps"


def _whole_epochs(budget: str, amount: float) -> int:
    steps = int(amount) // EPOCHS * EPOCHS
    if steps < EPOCHS:
        raise ConfigRefusal(f"--budget {budget}, {steps} steps", allowed=f"{EPOCHS} steps or more", cure="give more")
    return steps


def schedule(steps: int, warm_up_steps: int) -> dict[str, int]:
    """The bundle's settings for so many steps.

    Args:
        steps: a multiple of 5.
        warm_up_steps: of the configs; short runs warm up for two fifths.
    """
    return {
        "epochs": EPOCHS,
        "steps_per_epoch": steps // EPOCHS,
        "warm_up_steps": min(warm_up_steps, int(LONGEST_WARM_UP * steps)),
    }


def seconds_per_step(configs: Sequence[str], settings: Mapping[str, Any]) -> float:
    """Median of a few steps of ISCL after the first ones, with the very training that is timed."""
    from ignite.engine import Engine, Events
    from monai.bundle import ConfigWorkflow

    moments: list[float] = []

    def note(engine: Engine) -> None:
        moments.append(time.perf_counter())
        if len(moments) > PROBED_STEPS:
            engine.terminate()

    with tempfile.TemporaryDirectory() as place:
        only_steps = {"epochs": 1, "steps_per_epoch": PROBED_STEPS + 2, "warm_up_steps": 0, "num_workers": 0}
        places = {"output_dir": place, "ckpt_dir": str(Path(place) / "models")}
        workflow = ConfigWorkflow(
            config_file=list(configs),
            workflow_type=None,
            logging_file=False,
            **{**settings, **only_steps, **places, "train#handlers": []},
        )
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run()
    gaps = [after - before for before, after in itertools.pairwise(moments[1:])]
    return statistics.median(gaps)
