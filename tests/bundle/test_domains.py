"""mr.json trains; em.json does in micrograph/test_how_to.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from scipy import ndimage
from torch import Tensor, nn

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
    dark = json.loads((tmp_path / "models" / "training.json").read_text())["appearance"]
    (loudness,), (fineness,) = (set(dark[name]) for name in ("dark_noise", "dark_fineness"))
    window = np.percentile(ndimage.uniform_filter(images["noisy"], (5, 5, 1)), 99.5)
    assert loudness == pytest.approx(50 * 1000 / window, rel=0.03)
    assert fineness == pytest.approx(0.385, rel=0.03)  # of all frequencies alike
    with torch.no_grad():
        assert not torch.equal(network(torch.zeros(1, 1, 32, 32)), torch.zeros(1, 1, 32, 32))


class Oracle(nn.Module):
    """Knows the clean image (F), or the noise (H)."""

    def __init__(self, clean: Tensor, *, names_noise: bool) -> None:
        super().__init__()
        self.clean, self.names_noise = clean, names_noise

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return x - self.clean if self.names_noise else self.clean


@pytest.mark.parametrize("overlays", [("em",), ("em", "film"), ("mr",)])
def test_nothing_of_the_right_answer_is_lost(overlays: tuple[str, ...]) -> None:
    """Clouds, streaks and the mean of Rician noise: CT's kept mean and skips would take half of them for tissue."""
    parser = ConfigParser()
    parser.read_config([f"bundles/iscl/configs/{name}.json" for name in ("train", "small", *overlays)])
    network = parser.get_parsed_content("network_def").eval()
    down, right = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    clean = (0.4 * torch.sin(down / 3) * torch.sin(right / 2))[None, None]
    clouds = 0.3 * torch.cos(down / 20) + 0.2 + 0.05 * torch.randn(64, 64)
    network.denoiser, network.noise_extractor = (Oracle(clean, names_noise=names) for names in (False, True))
    with torch.no_grad():
        answer = network(clean + clouds)
    torch.testing.assert_close(answer, clean, atol=1e-5, rtol=0)
