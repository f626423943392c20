"""A function of Hounsfield units with the face of the trained denoiser, checked at every call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.evaluation.plausible import LARGEST_OFFSET_HU, check_same_image
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice

Image = npt.NDArray[np.float32]
Function = Callable[[Image], Any]

PROBE_PX = 128
PROBE_NOISE_HU = 20.0


class SubmittedFunction:
    """Denoises slice by slice with a function ``HU (row, column) float32 -> HU (row, column)``.

    It gets a copy of each slice, and one slice at a time: nobody promised that it leaves its input alone or may run
    in several threads. Before anything else it is tried on two made-up slices.

    Args:
        function: of a slice, HU in and out.
        name: as printed.
        version: of the package it comes from; empty: not known.
        digest: SHA-256 of its code, and of the files it names.
        origin: where it comes from, as printed: ``file.py:function`` or ``entry point module:function``.

    Raises:
        ConfigRefusal: if the function fails.
        ImageRefusal: if it returns another shape, what is not finite, or no Hounsfield units.
    """

    axes = "(row, column)"

    def __init__(self, function: Function, *, name: str, version: str, digest: str, origin: str) -> None:
        self.function = function
        self.origin = origin
        self.identity = ModelIdentity(name, version, digest)
        self.device = torch.device("cpu")
        self._one_at_a_time = threading.Lock()
        self.repeatable = self._repeats_itself()

    @property
    def parameters(self) -> dict[str, str]:
        """What it is known by: kept figures count only for the same."""
        return {
            "method": self.identity.name,
            "code": self.origin,
            "sha256": self.identity.weights_digest,
            "repeatable": "yes" if self.repeatable else "no: the same slice gave two results",
        }

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Image:
        """What the function adds to a slice, float32 HU (row, column).

        Raises:
            ConfigRefusal: if the function fails.
            ImageRefusal: if it returns another shape, what is not finite, or what is far from Hounsfield units.
        """
        check_slice(slice_hu)
        return self._change_hu(np.array(slice_hu, np.float32))

    def _change_hu(self, image_hu: Image) -> Image:
        change_hu = self._called(image_hu) - image_hu
        offset_hu = float(np.median(change_hu))
        if abs(offset_hu) > LARGEST_OFFSET_HU:
            raise ImageRefusal(
                f"{self._words}: its result lies {offset_hu:+.0f} HU from its input at the median",
                allowed=f"within {LARGEST_OFFSET_HU:g} HU",
                cure="return Hounsfield units (air -1000, water 0), not normalised and not shifted",
            )
        return change_hu

    @property
    def _words(self) -> str:
        return f"method {self.identity.name} ({self.origin})"

    def _called(self, image_hu: Image) -> Image:
        """The function's result, checked."""
        try:
            with self._one_at_a_time:
                result = np.asarray(self.function(image_hu.copy()))
        except Exception as error:
            raise ConfigRefusal(
                f"{self._words} failed on an image of shape {image_hu.shape}: {type(error).__name__}: {error}",
                allowed=f"a function of float32 HU {self.axes} that returns HU of the same shape",
                cure="mend the function",
            ) from error
        if result.shape != image_hu.shape or result.dtype.kind not in "iuf":
            raise ImageRefusal(
                f"{self._words} returned {result.dtype} of shape {result.shape} for shape {image_hu.shape}",
                allowed=f"real Hounsfield units {self.axes} of the shape that came in",
                cure="return one value for each pixel; no channel axis, no cropping",
            )
        if not np.isfinite(result).all():
            raise ImageRefusal(
                f"{self._words} returned NaN or infinite values",
                allowed="finite Hounsfield units",
                cure="mend the function",
            )
        return np.asarray(result, np.float32)

    def _probe(self, seed: int) -> Image:
        return probe_slice(seed)

    def _repeats_itself(self) -> bool:
        """Try it: one slice, another, the first again."""
        first, other = self._probe(0), self._probe(1)
        once = self._called(first)
        as_volume = (once, first) if first.ndim == 3 else (once[None], first[None])
        check_same_image(*as_volume, names=(f"the result of {self._words}", "its input"))
        self._called(other)
        return bool(np.array_equal(once, self._called(first)))


class SubmittedVolumeFunction(SubmittedFunction):
    """The same of a function ``HU (slice, row, column) -> HU (slice, row, column)``, which may look at neighbours.

    Where only single slices are measured it is given volumes of one slice.
    """

    axes = "(slice, row, column)"

    def change_volume_hu(self, volume_hu: npt.NDArray[np.floating]) -> Image:
        """What the function adds to a volume, float32 HU (slice, row, column).

        Raises:
            ConfigRefusal: if the function fails.
            ImageRefusal: as of :meth:`SubmittedFunction.change_hu`.
        """
        return self._change_hu(np.array(volume_hu, np.float32))

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Image:
        """What the function adds to a volume of this one slice, float32 HU (row, column)."""
        check_slice(slice_hu)
        change: Image = self.change_volume_hu(np.asarray(slice_hu)[None])[0]
        return change

    def _probe(self, seed: int) -> Image:
        return np.stack([probe_slice(seed), probe_slice(seed + 2), probe_slice(seed + 4)])


def probe_slice(seed: int) -> Image:
    """A made-up body in noise, HU (128, 128): air, lung, soft tissue and bone, on no axis of symmetry."""
    rows, columns = np.ogrid[:PROBE_PX, :PROBE_PX]

    def disc(row: float, column: float, radius: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = np.hypot(rows - row, columns - column) < radius
        return inside

    image = np.full((PROBE_PX, PROBE_PX), -1000.0)
    image[disc(64, 60, 52)] = 40
    image[disc(50, 40, 16)] = -800
    image[disc(88, 74, 8)] = 400
    noise = np.random.default_rng(seed).normal(0, PROBE_NOISE_HU, image.shape)
    return np.asarray(image + noise, np.float32)
