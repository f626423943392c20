"""BM3D: similar patches are stacked, and the stacks are denoised where they are sparse.

K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering",
IEEE Trans. Image Process. 16(8):2080-2095, 2007. Written from the paper, because the authors' package may be used for
non-commercial purposes only. Both steps, with the paper's sizes ("normal profile").

Two things differ, because Hounsfield units are not grey levels: water is 0, so a stack's mean is never thresholded or
shrunk (that would pull tissue towards 0 HU); and the bounds of similarity grow with the noise (they are the paper's at
its sigma of 25) instead of being fixed for 8 bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dct
from torch import Tensor

PATCH_PX = 8
STEP_PX = 3
REACH_PX = 19
THRESHOLD = 2.7
KAISER_BETA = 2.0
STACKS_AT_A_TIME = 4096
"""Bounds the memory: distances to 39 x 39 neighbours take 25 MB, stacks as much again a few times."""

Shrink = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the two steps.

    Args:
        stack: most patches in a stack, a power of 2.
        bound: on the mean squared difference of similar patches, in noise variances.
        forward: transform of a patch, shape (64, 64), on its 64 pixels in reading order.
        inverse: of ``forward``.
        shrink: stacks to denoise, stacks of the estimate, sigma -> denoised stacks, weight of each.
    """

    stack: int
    bound: float
    forward: Tensor
    inverse: Tensor
    shrink: Shrink


def bm3d(image: npt.NDArray[np.floating], *, sigma: float) -> npt.NDArray[np.float32]:
    """Denoise an image of white Gaussian noise.

    Args:
        image: any unit (row, column), finite, at least 8 pixels each way.
        sigma: standard deviation of the noise, same unit; 0 gives the image back.

    Returns:
        float32, same shape and unit.
    """
    noisy = torch.from_numpy(np.array(image, np.float32))
    if sigma <= 0:
        return np.asarray(noisy.numpy())
    # Centred, so that float32 squares keep their fractions.
    centre = noisy.mean()
    noisy = noisy - centre
    with torch.inference_mode():
        basic = _step(noisy, noisy, sigma, HARD_THRESHOLD)
        final = _step(noisy, basic, sigma, WIENER)
    return np.asarray((final + centre).numpy())


def _step(noisy: Tensor, guide: Tensor, sigma: float, step: Step) -> Tensor:
    """Match in ``guide``, denoise ``noisy``, and average all the estimates that each pixel gets."""
    rows, columns = noisy.shape
    within = (torch.arange(PATCH_PX)[:, None] * columns + torch.arange(PATCH_PX)).flatten()
    kaiser = torch.from_numpy(np.outer(*2 * [np.kaiser(PATCH_PX, KAISER_BETA)])).flatten()
    total, weight = np.zeros(rows * columns), np.zeros(rows * columns)
    for corners, distances in _matches(guide, step.stack):
        sizes = _stack_sizes(distances <= step.bound * sigma**2)
        for size in sorted(set(sizes.tolist())):
            places = corners[sizes == size, :size, None] + within
            stacks = noisy.flatten()[places] @ step.forward.T
            guides = stacks if guide is noisy else guide.flatten()[places] @ step.forward.T
            haar = _haar(size)
            shrunk, trust = step.shrink(_along(haar, stacks), _along(haar, guides), sigma)
            estimate = _along(haar.T, shrunk) @ step.inverse.T
            share = (trust[:, None, None] * kaiser).expand_as(estimate)
            # numpy adds one after another, so that the number of threads cannot change a sum.
            index = places.flatten().numpy()
            total += np.bincount(index, (share * estimate).flatten().numpy(), rows * columns)
            weight += np.bincount(index, share.flatten().numpy(), rows * columns)
    return torch.from_numpy((total / weight).astype(np.float32)).view(rows, columns)


def _matches(guide: Tensor, stack: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The patches nearest to each reference patch, nearest first.

    Yields:
        For some reference patches at a time: index of the first pixel of each patch, and its mean squared difference,
        both of shape (reference, stack); the first is the reference itself. Infinite where the image ends.
    """
    rows, columns = guide.shape
    across = _starts(columns)
    strip = max(1, STACKS_AT_A_TIME // len(across))
    offsets = sorted(
        itertools.product(range(-REACH_PX, REACH_PX + 1), repeat=2), key=lambda offset: math.hypot(*offset)
    )
    moves = torch.tensor([row * columns + column for row, column in offsets])
    # Beyond the border all is so different that nothing there is ever similar.
    padded = torch.nn.functional.pad(guide, [REACH_PX] * 4, value=math.inf)
    for down in torch.split(_starts(rows), strip):
        top, height = int(down[0]), int(down[-1] - down[0]) + PATCH_PX
        reference = guide[top : top + height]
        distances = torch.empty(len(offsets), len(down), len(across))
        for distance, (row, column) in zip(distances, offsets, strict=True):
            moved = padded[
                top + row + REACH_PX : top + row + REACH_PX + height, column + REACH_PX : column + REACH_PX + columns
            ]
            distance.copy_(_patch_means((moved - reference).square_(), down - top, across))
        nearest, which = distances.flatten(1).T.contiguous().topk(stack, largest=False)
        first = (down[:, None] * columns + across).flatten()
        yield first[:, None] + moves[which], nearest


def _patch_means(squares: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Means over the patches that start at these rows and columns."""
    tall = sum((squares[down + row] for row in range(1, PATCH_PX)), start=squares[down]).T.contiguous()
    both = sum((tall[across + column] for column in range(1, PATCH_PX)), start=tall[across])
    return both.T / PATCH_PX**2


def _starts(length: int) -> Tensor:
    """Every third place, and the last one: no pixel is left without an estimate."""
    last = length - PATCH_PX
    return torch.tensor(sorted({*range(0, last, STEP_PX), last}))


def _stack_sizes(similar: Tensor) -> Tensor:
    """The largest power of 2 that the number of similar patches allows; the reference alone is 1."""
    count = similar.sum(1).clamp_min(1)
    return 2 ** torch.floor(torch.log2(count.double())).long()


def _hard_threshold(stacks: Tensor, _guides: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Keep what stands out of the noise; a stack counts the more, the fewer coefficients it needed."""
    kept = stacks.abs() >= THRESHOLD * sigma
    kept[:, 0, 0] = True
    return stacks * kept, 1 / kept.flatten(1).sum(1)


def _wiener(stacks: Tensor, guides: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Shrink each coefficient by the share of it that the first step says is signal."""
    energy = guides.square()
    gain = energy / (energy + sigma**2)
    gain[:, 0, 0] = 1
    return stacks * gain, 1 / gain.flatten(1).square().sum(1)


def _along(transform: Tensor, stacks: Tensor) -> Tensor:
    """Transform along the stack: (size, size) on (stack, patch, pixel)."""
    return transform @ stacks


def _haar(size: int) -> Tensor:
    """Orthonormal Haar transform, mean first."""
    if size == 1:
        return torch.ones(1, 1)
    half = _haar(size // 2)
    mean = torch.kron(half, torch.tensor([[1.0, 1.0]]))
    detail = torch.kron(torch.eye(size // 2), torch.tensor([[1.0, -1.0]]))
    return torch.cat([mean, detail]) / math.sqrt(2)


def _bior() -> npt.NDArray[np.float64]:
    """Biorthogonal wavelet 1.5 on 8 samples that repeat, down to one mean; rows of norm 1."""
    smooth = np.array([3, -3, -22, 22, 128, 128, 22, -22, -3, 3]) / 256
    transform = np.eye(PATCH_PX)
    length = PATCH_PX
    while length > 1:
        level = np.zeros((length, length))
        for place in range(length // 2):
            np.add.at(level[place], (2 * place - 4 + np.arange(10)) % length, smooth)
            level[length // 2 + place, [2 * place, 2 * place + 1]] = 0.5, -0.5
        transform[:length] = level @ transform[:length]
        length //= 2
    return np.asarray(transform / np.linalg.norm(transform, axis=1, keepdims=True))


def _of_patches(transform: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """The same transform down and across a patch, and its inverse."""
    both = np.kron(transform, transform)
    return torch.from_numpy(both).float(), torch.from_numpy(np.linalg.inv(both)).float()


_BIOR, _BIOR_INVERSE = _of_patches(_bior())
_DCT, _DCT_INVERSE = _of_patches(dct(np.eye(PATCH_PX), axis=0, norm="ortho"))

HARD_THRESHOLD = Step(stack=16, bound=4.0, forward=_BIOR, inverse=_BIOR_INVERSE, shrink=_hard_threshold)
WIENER = Step(stack=32, bound=0.64, forward=_DCT, inverse=_DCT_INVERSE, shrink=_wiener)
