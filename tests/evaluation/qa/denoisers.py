"""Denoisers made for tests, and an honest, good one: it knows the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.inference.slice_denoiser import ModelIdentity

Slice = np.ndarray
MIDDLE = (128, 128)
NOISE_LEFT = 0.8
"""Of the full-dose scan's: an honest denoiser leaves some noise, and a full-dose scan nearly as it is."""

NOISY = 1.3
"""Times the full-dose scan's."""


class Made:
    """A denoiser made of a function from slice to slice, HU."""

    def __init__(self, denoised: Callable[[Slice], Slice], name: str = "made for a test") -> None:
        self.denoised, self.name = denoised, name
        self.device = torch.device("cpu")
        self.parameters: dict[str, str] = {}

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, "1.0", "0" * 64)

    def change_hu(self, slice_hu: Slice) -> Slice:
        return (self.denoised(slice_hu) - slice_hu).astype(np.float32)


class Oracle:
    """Knows what each slice shows without noise: truth plus a share of the noise, none of it invented."""

    def __init__(self, phantom: Phantom) -> None:
        self.truths: list[Slice] = []
        self.full_hu: dict[int, float] = {}
        self.module_of: dict[int, str] = {}
        for module in phantom.modules.values():
            noise = module.scans_hu(1.0)[0] - module.truth_hu
            self._know(module.name, (module.truth_hu, module.plain_hu), noise)
        stack = getattr(phantom, "stack", None)  # none in phantoms of old
        for truth, scan in zip(stack.truth_hu, stack.scans_hu(1.0), strict=True) if stack is not None else ():
            self._know("stack", (truth,), scan - truth)

    def _know(self, module: str, truths: Sequence[Slice], noise: Slice) -> None:
        for truth in truths:
            self.truths.append(truth)
            self.full_hu[id(truth)] = float(fitted(noise, MIDDLE).std())
            self.module_of[id(truth)] = module

    def truth_of(self, slice_hu: Slice) -> Slice:
        """The truth that is nearest to a slice, itself."""
        some = slice_hu[::3, ::3]  # enough to tell them apart
        return min(self.truths, key=lambda truth: float(np.abs(fitted(truth, slice_hu.shape)[::3, ::3] - some).mean()))

    def is_noisy(self, slice_hu: Slice) -> bool:
        """Whether a slice was taken at less than full dose."""
        truth = self.truth_of(slice_hu)
        noise = fitted(slice_hu - fitted(truth, slice_hu.shape), MIDDLE)
        return float(noise.std()) > NOISY * self.full_hu[id(truth)]

    def __call__(self, slice_hu: Slice) -> Slice:
        truth = self.truth_of(slice_hu)
        noise = slice_hu - fitted(truth, slice_hu.shape)
        # From the middle: what lies around it must not matter.
        left = NOISE_LEFT * self.full_hu[id(truth)] / float(fitted(noise, MIDDLE).std())
        return slice_hu - noise * (1 - min(1.0, left))


def fitted(image: Slice, shape: tuple[int, ...]) -> Slice:
    """The middle of an image, or the image in the middle of air."""
    cut = [max(0, (old - new) // 2) for old, new in zip(image.shape, shape, strict=True)]
    image = image[cut[0] : image.shape[0] - cut[0], cut[1] : image.shape[1] - cut[1]]
    put = [max(0, (new - old) // 2) for old, new in zip(image.shape, shape, strict=True)]
    return np.pad(image, [(size, size) for size in put], constant_values=-1000)
