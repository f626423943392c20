"""What lies around each pixel: means, the noise. Sums of shifted images, many times faster than pooling on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

NEIGHBOURHOOD_PX = 9
QUIET_PX = 25
CLIPPED = 0.95
QUIET_OF_NOISE = 0.86
""":func:`quiet_deviation` over the noise of reports (:func:`iscl_monai.quality.noise.noise_sigma_hu`): median of ten
slices of seven patients, 0.83 to 1.04; 0.89 of white noise."""


def local_mean(image: Tensor, side: int) -> Tensor:
    """Twice the moving average over ``side`` x ``side`` pixels; at the border over what is there.

    Args:
        image: (batch, channels, rows, columns).
        side: odd.
    """
    return box_mean(box_mean(image, side), side)


def box_mean(image: Tensor, side: int) -> Tensor:
    """Moving average over ``side`` x ``side`` pixels; at the border over what is there.

    Args:
        image: (batch, channels, rows, columns).
        side: odd.
    """
    half = side // 2
    sums = _sum_along(_sum_along(pad(image, [half, half, half, half]), side, -2), side, -1)
    rows = _there(image.shape[-2], half, image)
    columns = _there(image.shape[-1], half, image)
    return sums * (1 / rows)[:, None] * (1 / columns)


def box_minimum(image: Tensor, side: int) -> Tensor:
    """Least value of ``side`` x ``side`` pixels; at the border of what is there.

    Args:
        image: (batch, channels, rows, columns).
        side: odd.
    """
    half = side // 2
    padded = pad(image, [half, half, half, half], value=float("inf"))
    return _minimum_along(_minimum_along(padded, side, -2), side, -1)


def quiet_deviation(x: Tensor, side: int = NEIGHBOURHOOD_PX, quiet: int = QUIET_PX, clipped: float = CLIPPED) -> Tensor:
    """The noise around each pixel: the standard deviation of the quietest 9x9 pixels nearby, smoothed.

    Structure only adds to a deviation, so the least of a neighbourhood is the noise; being the least of many it lies
    below the mean by a share that does not depend on the noise. Where the window clips (air), noise is cut off and
    tells nothing: such places do not count.

    Args:
        x: (batch, 1, rows, columns) in [-1, 1].
        side: of the neighbourhood of a deviation, in pixels; odd.
        quiet: of the square whose least deviation counts, and of the smoothing; odd.
        clipped: local means beyond this are cut off by the window.

    Returns:
        The same shape and units; 0 where everything around is clipped.
    """
    mean = box_mean(x, side)
    # Of differences to a local level: squares of bright tissue would lose small deviations to rounding.
    variance = (box_mean((x - mean).square(), side) - box_mean(x - mean, side).square()).clamp_min(0.0)
    deviation = torch.where(mean.abs() > clipped, torch.full_like(x, 2.0), variance.sqrt())
    least = box_minimum(deviation, quiet)
    known = (least < 2.0).to(x.dtype)
    return box_mean(least * known, quiet) / box_mean(known, quiet).clamp_min(1e-6)


def quiet_deviation_reach_px(side: int = NEIGHBOURHOOD_PX, quiet: int = QUIET_PX) -> int:
    """How far away a pixel of the input can change one of :func:`quiet_deviation`."""
    return 2 * (side // 2) + 2 * (quiet // 2)


def _sum_along(padded: Tensor, side: int, axis: int) -> Tensor:
    """Sums of ``side`` neighbours, put together from sums of 1, 2, 4, 8 ... neighbours; ``side`` is odd."""
    length = padded.shape[axis] - side + 1
    total = padded.narrow(axis, 0, length)
    doubled, span, done = padded, 1, 1
    while done < side:
        longer = doubled.shape[axis] - span
        doubled = doubled.narrow(axis, 0, longer) + doubled.narrow(axis, span, longer)
        span = 2 * span
        if side & span:
            total = total + doubled.narrow(axis, done, length)
            done = done + span
    return total


def _minimum_along(padded: Tensor, side: int, axis: int) -> Tensor:
    length = padded.shape[axis] - side + 1
    doubled, span = padded, 1
    while 2 * span <= side:
        longer = doubled.shape[axis] - span
        doubled = torch.minimum(doubled.narrow(axis, 0, longer), doubled.narrow(axis, span, longer))
        span = 2 * span
    # The last two may overlap: a minimum does not mind.
    return torch.minimum(doubled.narrow(axis, 0, length), doubled.narrow(axis, side - span, length))


def _there(length: int, half: int, like: Tensor) -> Tensor:
    """How many of the neighbours along an axis lie inside the image."""
    place = torch.arange(length, device=like.device)
    inside = (place + half).clamp_max(length - 1) - (place - half).clamp_min(0) + 1
    return inside.to(like.dtype)
