"""How near an image comes to its reference, on a named protocol.

Every number carries its :class:`iscl_monai.quality.protocol.Protocol`, and numbers of two protocols are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.body import SKIN_HU, body_of_slice
from iscl_monai.quality.information import visual_information
from iscl_monai.quality.protocol import HU_BODY, Protocol

if TYPE_CHECKING:
    import torch  # as a module only where it is used: who measures noise in arrays need not wait for it

Image: TypeAlias = "NDArray[Any] | torch.Tensor"
"""HU as (slice, row, column), or one slice as (row, column); any real dtype, any device."""

AIR_HU = -1024.0


@dataclass(frozen=True)
class FidelityMean:
    """Means over the slices that could be measured.

    Args:
        protocol: what the numbers were measured with.
        slices: how many slices went into the means.
        psnr_db: mean of the slices' PSNR (not the PSNR of the pooled error); inf if one slice is exact.
        ssim: mean structural similarity, at most 1.
        rmse_hu: mean of the slices' RMSE.
        mean_shift_hu: mean of test minus reference.
        vif: mean of the slices' visual information fidelity; NaN where the protocol does not define it.
        mse_hu2: mean of the squares of the slices' RMSE: unlike the RMSE, parts of it add up.
    """

    protocol: Protocol
    slices: int
    psnr_db: float
    ssim: float
    rmse_hu: float
    mean_shift_hu: float
    vif: float = math.nan
    mse_hu2: float = math.nan

    def gain_over(self, baseline: FidelityMean) -> dict[str, float]:
        """This minus ``baseline`` (such as the noisy input), by name, for what the protocol measures.

        Raises:
            Refusal: if the two were measured on different protocols or numbers of slices.
        """
        same_protocol(self, baseline)
        if self.slices != baseline.slices:
            raise Refusal(
                f"means over {self.slices} and {baseline.slices} slices",
                allowed="means over the same slices",
                cure="measure both images on the same volume",
            )
        return {name: getattr(self, name) - getattr(baseline, name) for name in self.protocol.quantities}


@dataclass(frozen=True)
class Fidelity:
    """Fidelity of each slice. Every array has shape (slice,), NaN where the protocol's region is empty.

    ``vif`` is NaN throughout where the protocol does not define it.
    """

    protocol: Protocol
    psnr_db: NDArray[np.float64]
    ssim: NDArray[np.float64]
    rmse_hu: NDArray[np.float64]
    mean_shift_hu: NDArray[np.float64]
    vif: NDArray[np.float64]

    def mean(self) -> FidelityMean:
        """Means over the slices that show the region."""
        columns = (self.psnr_db, self.ssim, self.rmse_hu, self.mean_shift_hu, self.vif, self.rmse_hu**2)
        # A slice may have a body and yet no SSIM (its window does not fit) or VIF (nothing in it).
        means = (
            float(column[~np.isnan(column)].mean()) if not np.isnan(column).all() else math.nan for column in columns
        )
        return FidelityMean(self.protocol, int((~np.isnan(self.rmse_hu)).sum()), *means)


def same_protocol(*results: Fidelity | FidelityMean) -> Protocol:
    """The one protocol behind all ``results``.

    Raises:
        Refusal: if there is more than one, or none.
    """
    protocols = list(dict.fromkeys(result.protocol for result in results))
    if len(protocols) != 1:
        raise Refusal(
            f"numbers measured on {len(protocols)} protocols: {_differences_of(protocols) or 'none'}",
            allowed="one protocol, the same in every setting, for all numbers that are compared",
            cure="measure all images again on one protocol, e.g. hu-body",
        )
    return protocols[0]


def _differences_of(protocols: Sequence[Protocol]) -> str:
    """Their identities; and of those that share a name what differs, for a digest tells nobody what."""
    settings = [protocol.settings() for protocol in protocols]
    differ = [name for name in settings[0] if len({str(held[name]) for held in settings}) > 1] if settings else []
    by_name = len({protocol.name for protocol in protocols}) == len(protocols)
    details = ["" if by_name else f" ({', '.join(f'{name} {held[name]}' for name in differ)})" for held in settings]
    return ", ".join(protocol.identity + detail for protocol, detail in zip(protocols, details, strict=True))


def fidelity(test_hu: Image, reference_hu: Image, *, protocol: Protocol = HU_BODY) -> Fidelity:
    """Measure each slice of ``test_hu`` against ``reference_hu``.

    Args:
        test_hu: HU (slice, row, column) or (row, column).
        reference_hu: HU of the same shape; it alone decides where the body is.
        protocol: what to measure.

    Returns:
        One number per slice; NaN where the slice shows no body and the protocol wants one.

    Raises:
        ImageRefusal: if shapes differ, values are not finite, slices are smaller than the SSIM kernel,
            or no slice at all shows a body.
    """
    test, reference = as_volume(test_hu), as_volume(reference_hu)
    if test.shape != reference.shape:
        raise ImageRefusal(
            f"test of shape {test.shape}, reference of shape {reference.shape}",
            allowed="two images of one shape (slice, row, column)",
            cure="measure against the reference of this very series, not resampled",
        )
    if min(test.shape[1:]) < protocol.ssim_kernel_size:
        raise ImageRefusal(
            f"slices of {test.shape[1]} x {test.shape[2]} pixels",
            allowed=f"at least {protocol.ssim_kernel_size} pixels each way (SSIM kernel of {protocol.name})",
            cure="measure whole slices",
        )
    mask = body_mask(reference) if protocol.region == "body" else np.ones(reference.shape, dtype=bool)
    if not mask.any():
        raise ImageRefusal(
            f"no slice of the reference shows a body (largest value {reference.max():g} HU)",
            allowed=f"tissue above {SKIN_HU:g} HU for protocol {protocol.name}",
            cure="check that the image is in HU; for patches use protocol hu-frame",
        )
    rows = [_slice_fidelity(*images, protocol) for images in zip(test, reference, mask, strict=True)]
    return Fidelity(protocol, *np.array(rows, dtype=np.float64).T)


def _slice_fidelity(
    test: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_], protocol: Protocol
) -> tuple[float, float, float, float, float]:
    """PSNR, SSIM, RMSE, mean shift and VIF of one slice (row, column)."""
    if not mask.any():
        return (np.nan,) * 5
    shown, truth = _clip(test, protocol.window), _rounded(_clip(reference, protocol.window), protocol)
    mse = np.mean((shown - truth)[mask].astype(np.float64) ** 2)
    psnr_db = 10 * np.log10(protocol.data_range_hu**2 / mse) if mse > 0 else np.inf
    error_hu = (_clip(test, protocol.error_window) - _clip(reference, protocol.error_window))[mask]
    error_hu = error_hu.astype(np.float64)
    rmse_hu = np.sqrt(np.mean(error_hu**2))
    ssim, vif = _ssim(shown, truth, mask, protocol), _vif(test, reference, protocol)
    return float(psnr_db), ssim, float(rmse_hu), float(error_hu.mean()), vif


def _rounded(clipped_hu: NDArray[np.float32], protocol: Protocol) -> NDArray[np.float32]:
    """To the nearest of the protocol's grey levels."""
    if protocol.window is None or protocol.reference_levels is None:
        return clipped_hu
    lowest, highest = protocol.window.lower, protocol.window.upper
    step = (highest - lowest) / (protocol.reference_levels - 1)
    rounded: NDArray[np.float32] = (np.rint((clipped_hu - lowest) / step) * step + lowest).astype(np.float32)
    return rounded


def _vif(test: NDArray[np.float32], reference: NDArray[np.float32], protocol: Protocol) -> float:
    if protocol.vif_window is None:
        return math.nan
    image, scene = (test, reference) if protocol.vif_truth == "reference" else (reference, test)
    return visual_information(image, scene, window=protocol.vif_window)


def _ssim(
    test: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_], protocol: Protocol
) -> float:
    """Mean of the SSIM map where its window fits into the slice and its centre lies in ``mask``."""
    size = protocol.ssim_kernel_size
    # The luminance term wants values that count from black up, as grey levels do.
    black = AIR_HU if protocol.window is None else protocol.window.lower
    uniform = protocol.ssim_kernel == "uniform"
    # MONAI has population (co)variances; scaling C2 by (n-1)/n gives exactly the map of sample ones.
    sample = (size**2 - 1) / size**2 if uniform else 1.0
    import torch
    from monai.metrics.regression import compute_ssim_and_cs  # seconds to import, and few need the number

    ssim, _ = compute_ssim_and_cs(
        torch.from_numpy(test - black)[None, None],
        torch.from_numpy(reference - black)[None, None],
        spatial_dims=2,
        kernel_size=(size, size),
        kernel_sigma=(1.5, 1.5),
        data_range=protocol.data_range_hu,
        kernel_type=protocol.ssim_kernel,
        k2=0.03 * float(np.sqrt(sample)),
    )
    edge = size // 2
    inside = mask[edge:-edge, edge:-edge]
    return float(ssim[0, 0].numpy()[inside].mean(dtype=np.float64)) if inside.any() else np.nan


def body_mask(reference_hu: Image) -> NDArray[np.bool_]:
    """Everything inside the skin: tissue, and the air in lungs and bowel; not the table.

    Each slice for itself, see :func:`iscl_monai.quality.body.body_of_slice`.

    Args:
        reference_hu: HU (slice, row, column) or (row, column).

    Returns:
        bool (slice, row, column), also for one slice; all False in a slice without a body.
    """
    return np.stack([body_of_slice(image) for image in as_volume(reference_hu)])


def as_volume(image_hu: Image) -> NDArray[np.float32]:
    """HU as a numpy volume (slice, row, column), float32, on the CPU; one slice gets a first axis.

    Raises:
        ImageRefusal: if there are not 2 or 3 axes, no voxels, or values that are not finite.
    """
    if not isinstance(image_hu, np.ndarray) and hasattr(image_hu, "detach"):  # a tensor
        image_hu = image_hu.detach().cpu().float().numpy()
    volume = np.asarray(image_hu, dtype=np.float32)
    volume = volume[None] if volume.ndim == 2 else volume
    if volume.ndim != 3 or volume.size == 0:
        raise ImageRefusal(
            f"an image of shape {np.shape(image_hu)}",
            allowed="HU as (slice, row, column) or (row, column), not empty",
            cure="drop the batch and channel axes",
        )
    if not np.isfinite(volume).all():
        raise ImageRefusal(
            f"an image with {int((~np.isfinite(volume)).sum())} voxels that are NaN or infinite",
            allowed="finite HU",
            cure="find out which step made them; nothing can be measured on such an image",
        )
    return volume


def _clip(image: NDArray[np.float32], window: HUWindow | None) -> NDArray[np.float32]:
    return image if window is None else image.clip(window.lower, window.upper)
