"""The denoiser of each method, all with one face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.baselines import classical
from iscl_monai.data import ScanPair
from iscl_monai.errors import CheckpointRefusal
from iscl_monai.evaluation.benchmark.methods import BUNDLE, FUNCTION, IMAGES, Method
from iscl_monai.evaluation.submission import DenoisedFolder, SubmittedImages, load_submitted
from iscl_monai.inference import Denoiser, ModelIdentity, SliceDenoiser
from iscl_monai.version import __version__


class Unchanged:
    """Nothing done: the noisy input, which stands beside every number."""

    identity = ModelIdentity("noisy input", __version__, "")
    device = torch.device("cpu")

    @property
    def parameters(self) -> dict[str, str]:
        """None."""
        return {}

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """0 HU everywhere."""
        return np.zeros(slice_hu.shape, np.float32)


def denoiser_of(
    method: Method, bundle: Path | None, *, device: str = "auto", pairs: Sequence[ScanPair] = ()
) -> SliceDenoiser:
    """What is measured.

    Args:
        method: a row of the table.
        bundle: of its training; None where nothing was trained.
        device: of learned methods.
        pairs: that denoised images are looked for.

    Raises:
        CheckpointRefusal: if a learned method left no weights.
        Refusal: what is wrong with a submitted method.
    """
    if method.kind == "input":
        return Unchanged()
    if method.kind == "classical":
        return classical(method.name)
    if method.kind == FUNCTION:
        return load_submitted(method.name, method.source)
    if method.kind == IMAGES:
        return SubmittedImages(DenoisedFolder.find(method.source, pairs), pairs, name=method.name)
    if method.kind == BUNDLE:
        return _taking_all_noise(method.source, device)
    if bundle is None:
        raise CheckpointRefusal(f"{method.name} without a bundle", allowed="a trained one", cure="train it first")
    return _taking_all_noise(bundle, device, mode=method.mode)


def _taking_all_noise(bundle: Path | str, device: str, *, mode: str = "ensemble") -> Denoiser:
    """Weights that leave some noise on purpose leave none here: how much stays is what the strength is for."""
    denoiser = Denoiser.from_bundle(bundle, device=device, mode=mode)
    if "target_noise_hu" not in denoiser.parameters:
        return denoiser
    return Denoiser.from_bundle(bundle, device=device, mode=mode, target_noise_hu=0.0)
