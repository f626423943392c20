"""mr.json trains; em.json does in micrograph/test_how_to.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from iscl_monai.networks import DenoisingNetwork, ResidualUNetGenerator


def test_mr_trains_and_its_weights_know_what_they_are_for(
    workflow: Callable[..., ConfigWorkflow], tiny: dict[str, Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:96, :80] - 40
    head = np.maximum(0.0, 900 - 25 * np.hypot(down, right))[..., None] * np.ones(3)
    real, imaginary = 50 * rng.standard_normal((2, *head.shape))
    images = {"clean": head, "noisy": np.hypot(head + real, imaginary)}
    for name, values in images.items():
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    pools = {name: [{"image": f"{name}.nii", "patient": name}] for name in images}
    (tmp_path / "datalist.json").write_text(json.dumps(pools))
    steps = {"epochs": 1, "steps_per_epoch": 2, "warm_up_steps": 1}
    places = {"dataset_dir": tmp_path, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    run = workflow("train", "small", "mr", **places, **(tiny | steps))
    run.run()
    losses = run.parser.get_parsed_content("train#trainer").state.output
    found = {name for name, value in losses.items() if isinstance(value, float)}
    assert found == {"bypass", "harvest", "pseudo_noise", "harvested_noise"}
    network = DenoisingNetwork.from_file(tmp_path / "models" / "model.pt", domain="mr")
    assert isinstance(network.denoiser, ResidualUNetGenerator)
    with torch.no_grad():
        assert not torch.equal(network(torch.zeros(1, 1, 32, 32)), torch.zeros(1, 1, 32, 32))
