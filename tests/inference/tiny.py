"""A bundle with a network that is small, untrained and the same everywhere, and yet changes every scan."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor, gather_statistics

METADATA = Path(__file__).resolve().parents[2] / "bundles" / "iscl" / "configs" / "metadata.json"


WINDOWS = {"ct": HUWindow(-1000.0, 1000.0), "micrograph": HUWindow(0.0, 255.0), "mr": HUWindow(0.0, 1250.0)}


def tiny_network(seed: int = 0, domain: str = "ct") -> DenoisingNetwork:
    """Random weights, statistics gathered from a ramp with noise; changes tissue by tens of HU."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, extractor = Generator(width=4, residual_blocks=1), NoiseExtractor(width=4, layers=6)
        with torch.no_grad():
            extractor.steps[-1].weight.mul_(0.1)
        network = DenoisingNetwork(
            denoiser=generator,
            noise_extractor=extractor,
            hu_window=WINDOWS[domain],
            blend=0.1,
            domain=domain,
            keep_mean_px=9 if domain == "ct" else 0,
        )
        ramp = torch.linspace(-0.8, 0.8, 64).expand(2, 1, 64, 64)
        gather_statistics(network, [ramp + 0.05 * torch.randn(2, 1, 64, 64) for _ in range(4)])
    return network.eval()


def make_bundle(folder: Path, seed: int = 0, domain: str = "ct") -> Path:
    """What :meth:`iscl_monai.inference.denoiser.Denoiser.from_bundle` needs, and nothing else."""
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    torch.save(tiny_network(seed, domain).state_dict(), folder / "models" / "model.pt")
    metadata = json.loads(METADATA.read_text())
    metadata.pop("released_weights", None)  # it has none
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder
