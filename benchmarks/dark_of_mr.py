"""What a denoiser of MR magnitude leaves in the dark, and whether it takes what is faint with it.

    python benchmarks/dark_of_mr.py BUNDLE FOLD

FOLD is the folder of a datalist whose test has references. First mean and root mean square of the error by what the
reference shows, in units of the noise. Then discs of known brightness in the dark, which show no head: a denoiser that
calls all dark nothing has no bias there either, and no discs.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from iscl_monai.data import Datalist
from iscl_monai.domain import MR
from iscl_monai.inference import Denoiser
from iscl_monai.quality.dark import dark_blocks, sigma_of

Image = NDArray[np.float32]
NOTHING = 5.0
"""Thousandths of the window: darker is background."""
BOUNDS = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0, np.inf)
"""Of what the reference shows, times the noise."""
SIGMA = 50.0
RADII_PX = (4, 10, 25)
TIMES_SIGMA = (1.0, 1.5, 2.0, 3.0, 4.0)
SIDE, BESIDE = 384, 3


def errors(denoiser: Denoiser, fold: Path) -> tuple[Image, Image, Image]:
    """Errors and references in units of the noise, and where there is nothing, of all pixels of the test."""
    found = []
    for pair in Datalist.load(fold, MR).test:
        loaded = MR.loader(("noisy", "clean"))(pair.item())
        noisy, clean = (torch.as_tensor(loaded[key])[0].permute(2, 0, 1).numpy() for key in ("noisy", "clean"))
        blocks = dark_blocks(list(noisy))
        assert blocks is not None, f"{pair} shows no dark"
        sigma = sigma_of(blocks)
        for image, reference in zip(noisy, clean, strict=True):
            error = image + denoiser.change_mosaic(image) - reference
            found.append(np.stack([error / sigma, reference / sigma, reference < NOTHING]).reshape(3, -1))
    error, reference, nothing = np.concatenate(found, axis=1)
    return error, reference, nothing


def disc_means(denoiser: Denoiser, radius: float, times: float, rng: np.random.Generator) -> tuple[float, float]:
    """Mean of nine discs and of the dark around them after denoising, in units of the noise."""
    down, right = np.mgrid[:SIDE, :SIDE]
    step = SIDE // BESIDE
    disc = np.hypot(down % step - step / 2, right % step - step / 2) < radius
    clean = np.where(disc, times * SIGMA, 0.0)
    real, imaginary = SIGMA * rng.standard_normal((2, SIDE, SIDE))
    noisy = np.hypot(clean + real, imaginary).astype(np.float32)
    answer = (noisy + denoiser.change_mosaic(noisy)) / SIGMA
    return float(answer[disc].mean()), float(answer[~disc].mean())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("fold", type=Path)
    given = parser.parse_args()
    denoiser = Denoiser.from_bundle(given.bundle, device="cpu", domain="mr", weights="trained")
    error, reference, nothing = errors(denoiser, given.fold)
    print(f"bias of the background: {error[nothing > 0].mean():+.3f} sigma")
    for low, high in pairwise(BOUNDS):
        own = error[(reference >= low) & (reference < high)]
        print(f"{low:g} to {high:g} sigma: error {own.mean():+.2f}, root mean square {np.sqrt((own**2).mean()):.2f}")
    rng = np.random.default_rng(0)
    for radius in RADII_PX:
        means = [disc_means(denoiser, radius, times, rng) for times in TIMES_SIGMA]
        shown = ", ".join(f"{times:g} -> {disc:.2f}" for times, (disc, _) in zip(TIMES_SIGMA, means, strict=True))
        print(f"discs of {radius} px: {shown}; dark beside them {np.mean([dark for _, dark in means]):.2f}")


if __name__ == "__main__":
    main()
