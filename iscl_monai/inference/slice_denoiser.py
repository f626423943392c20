"""What every denoiser of slices is to the rest of the house: who it is, where it computes, what it changes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal, ImageRefusal
from iscl_monai.parallel import in_order, useful_workers

if TYPE_CHECKING:
    import torch

SMALLEST_PX, LARGEST_PX = 16, 4096
LARGEST_DOSE = 1e4
"""Of a wanted dose over that of the scan: it leaves a hundredth of the noise; more is a slip of the keyboard."""


@dataclass(frozen=True)
class ModelIdentity:
    """What made an image: enough to make it again.

    Args:
        name: of the model.
        version: of the model, from the bundle's metadata.
        weights_digest: SHA-256 of the weights file, hexadecimal.
    """

    name: str
    version: str
    weights_digest: str

    @classmethod
    def of_weights(cls, weights: Path, metadata: Path) -> ModelIdentity:
        """Read it from a bundle's files.

        Raises:
            CheckpointRefusal: if one of them cannot be read.
        """
        try:
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            version = json.loads(metadata.read_text(encoding="utf-8"))["version"]
            if not isinstance(version, str) or not re.fullmatch(r"[\w.+-]{1,32}", version, re.ASCII):
                raise ValueError(f"version {str(version)[:40]!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointRefusal(
                f"{weights} or {metadata}: {error}",
                allowed="a weights file, and a metadata.json with a version such as 0.1.0",
                cure="give the folder of a trained bundle",
            ) from error
        return cls("ISCL", version, digest)


class SliceDenoiser(Protocol):
    """The face of everything that denoises: the trained bundle, and the baselines it is compared with."""

    @property
    def identity(self) -> ModelIdentity:
        """What it is."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def parameters(self) -> dict[str, str]:
        """Every setting that can change a pixel, in words."""

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What denoising adds to a slice, float32 HU (row, column); see :class:`.denoiser.Denoiser`."""


@runtime_checkable
class VolumeDenoiser(Protocol):
    """What a denoiser that looks at neighbouring slices has beside the face of a :class:`SliceDenoiser`."""

    def change_volume_hu(self, volume_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What denoising adds to a volume, float32 HU (slice, row, column) of the same shape."""


def denoise_volume(
    volume_hu: npt.NDArray[Any],
    denoiser: SliceDenoiser,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> npt.NDArray[np.float32]:
    """Denoise an array, slice by slice, or at once with a :class:`VolumeDenoiser`.

    Args:
        volume_hu: Hounsfield units (slice, row, column), any real type, finite.
        denoiser: see :meth:`iscl_monai.inference.denoiser.Denoiser.from_bundle`.
        workers: slices worked on at the same time; default: one per CPU core, less if memory is short.
        progress: called with 1 after each slice.

    Returns:
        float32 HU of the same shape. ``denoise_volume(v)[i]`` is ``denoise_volume(v[i : i + 1])[0]``, bit for bit, but
        for a :class:`VolumeDenoiser`.

    Raises:
        ImageRefusal: not three axes, slices of other sizes than 16 to 4096 pixels, values that are not finite, or
            a change that is no volume of finite values.
    """
    if np.ndim(volume_hu) != 3 or np.asarray(volume_hu).dtype.kind not in "iuf":
        raise ImageRefusal(
            f"an array of shape {np.shape(volume_hu)}, {np.asarray(volume_hu).dtype}",
            allowed="real Hounsfield units (slice, row, column)",
            cure="give a single slice as array[None]",
        )
    denoised = np.array(volume_hu, np.float32)
    if len(denoised):
        check_slice(denoised[0])
    if isinstance(denoiser, VolumeDenoiser):
        denoised += _volume_change(denoiser, denoised)
        if progress is not None:
            progress(len(denoised))
        return denoised
    workers = workers or useful_workers(denoiser.device.type, len(denoised), denoised.shape[1:])
    for index, change_hu in enumerate(in_order(denoised, denoiser.change_hu, workers=workers)):
        denoised[index] += change_hu
        if progress is not None:
            progress(1)
    return denoised


def _volume_change(denoiser: VolumeDenoiser, volume_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    change_hu = np.asarray(denoiser.change_volume_hu(volume_hu), np.float32)
    if change_hu.shape != volume_hu.shape or not np.isfinite(change_hu).all():
        raise ImageRefusal(
            f"a change of shape {change_hu.shape} to a volume of shape {volume_hu.shape}",
            allowed="finite HU of the same shape",
            cure="mend change_volume_hu of the denoiser",
        )
    return change_hu


def check_targets(noise_hu: float | None, dose: float | None) -> None:
    """Refuse what nobody can leave in an image.

    Args:
        noise_hu: to be left, HU; None: not asked for.
        dose: whose noise is to be left, over that of the scan; None: not asked for.

    Raises:
        ConfigRefusal: both, or a dose below the scan's own or beyond ``LARGEST_DOSE``.
    """
    if noise_hu is not None and dose is not None:
        raise ConfigRefusal(
            f"target noise {noise_hu:g} HU and target dose {dose:g}", allowed="one of the two", cure="leave one out"
        )
    if dose is not None and not 1 <= dose <= LARGEST_DOSE:
        raise ConfigRefusal(
            f"target dose {dose:g}",
            allowed=f"1 to {LARGEST_DOSE:g} times the dose of the scan",
            cure="4 leaves half the noise",
        )


def check_sides(path: Path, rows: int, columns: int, *, largest: int | None = LARGEST_PX) -> None:
    """Refuse images of a size that no network here can work on, by the name of what holds them.

    Args:
        path: of the file or folder.
        rows: of its images.
        columns: likewise.
        largest: pixels each way; None: any, as of mosaics.

    Raises:
        ImageRefusal: fewer than 16 pixels, or more than ``largest``.
    """
    if min(rows, columns) < SMALLEST_PX or (largest is not None and max(rows, columns) > largest):
        raise ImageRefusal(
            f"{path}: images of {rows} x {columns} pixels",
            allowed=f"{SMALLEST_PX} pixels or more each way" if largest is None else f"{SMALLEST_PX} to {largest} each",
            cure="give the original images, not cropped",
        )


def check_slice(slice_hu: npt.NDArray[Any]) -> None:
    """Refuse what no network here can work on.

    Raises:
        ImageRefusal: unless (row, column), 16 to 4096 pixels each way, finite.
    """
    sides = np.shape(slice_hu)
    if len(sides) != 2 or min(sides) < SMALLEST_PX or max(sides) > LARGEST_PX:
        raise ImageRefusal(
            f"a slice of shape {sides}",
            allowed=f"(rows, columns) of {SMALLEST_PX} to {LARGEST_PX} pixels each",
            cure="give the original images",
        )
    if not np.isfinite(slice_hu).all():
        raise ImageRefusal("NaN or infinite values", allowed="finite Hounsfield units", cure="mend the image first")
