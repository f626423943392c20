"""Error to the anatomy without noise, also where only a noisy reference of it is there."""

from __future__ import annotations

import math

from iscl_monai.quality.fidelity import Image, as_volume, body_mask


def truth_error_hu2(denoised_hu: Image, truth_hu: Image) -> float:
    """Mean square of the error inside the body, HU^2; NaN without a body.

    Args:
        denoised_hu: HU (slice, row, column) or (row, column).
        truth_hu: the anatomy without noise, of the same shape.
    """
    denoised, truth = as_volume(denoised_hu), as_volume(truth_hu)
    body = body_mask(truth)
    return float(((denoised - truth)[body] ** 2).mean()) if body.any() else math.nan


def estimated_error_hu2(denoised_hu: Image, noisy_hu: Image, reference_hu: Image, dose: float) -> float:
    """The same, where the noisy image was made from its reference by adding noise, and the truth is not known.

    The reference is the truth with noise ``n0``; the noisy image has ``n0 + n1``. A denoiser cannot tell the two apart:
    it leaves the same share of both. That of ``n1`` can be measured, as ``n1`` is known, and has nothing to do with the
    reference. So with ``s0`` and ``s1`` their mean squares, ``s0 = s1 a / (1 - a)`` at the share a of the dose::

        left = mean((denoised - reference) n1) / s1
        error = mean((denoised - reference)^2) - s0 + 2 left s0

    Without the last term a denoiser would gain by leaving noise that happens to be in the reference, too.

    Args:
        denoised_hu: HU (slice, row, column) or (row, column).
        noisy_hu: what was denoised, of the same shape.
        reference_hu: what it was made from.
        dose: of the noisy image over the reference's, in (0, 1).

    Returns:
        HU^2, with an error of its own, so it may come out below 0; NaN without a body, or without added noise.
    """
    denoised, noisy, reference = (as_volume(image) for image in (denoised_hu, noisy_hu, reference_hu))
    body = body_mask(reference)
    away, added = (denoised - reference)[body].astype(float), (noisy - reference)[body].astype(float)
    power = float((added**2).mean()) if added.size else 0.0
    if power == 0:
        return math.nan
    own = power * dose / (1 - dose)
    left = float((away * added).mean()) / power
    return float((away**2).mean()) - own + 2 * left * own


def root_hu(mean_square_hu2: float) -> float:
    """Root of a mean square that may come out below 0; it keeps its sign."""
    return math.copysign(math.sqrt(abs(mean_square_hu2)), mean_square_hu2)
