"""``mlflow.json``: a training that MLflow tracks; MLflow is not part of the test environment, and often not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

CONFIGS = Path("bundles/iscl/configs")


def test_the_overlay_adds_a_handler_to_those_of_the_training() -> None:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "mlflow.json")])
    own = json.loads((CONFIGS / "train.json").read_text())["train"]["handlers"]
    handlers = parser.config["train"]["handlers"]
    assert handlers[:-1] == own
    assert handlers[-1]["_target_"] == "monai.handlers.MLFlowHandler"
    assert parser.config["validate"]["evaluator"]["val_handlers"][0]["_target_"] == "monai.handlers.MLFlowHandler"


def test_losses_and_metrics_are_in_one_run(
    workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    places = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models", "dataset_dir": phantom}
    workflow("train", "mlflow", **places, **(tiny | {"epochs": 1, "steps_per_epoch": 10, "warm_up_steps": 0})).run()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("iscl")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "out"
    assert {"psnr_db", "boosting", "zero_mean"} <= set(run.data.metrics)
