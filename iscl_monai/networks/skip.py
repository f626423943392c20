"""A way around the bottleneck that structure can take and noise cannot."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting  # torch.jit has the same, without a type
from torch.nn.functional import pad

from iscl_monai.networks.local import box_mean, quiet_deviation, quiet_deviation_reach_px

COMPILED_PATCH_PX = 5
HAS_NUMBA = find_spec("numba") is not None  # of the extra data; torch does without


class NonLocalSkip(nn.Module):
    """Non-local means whose strength follows the noise around each pixel.

    As a skip of F it spares the bottleneck what is seen in several places of an image (edges, vessels), and cannot
    carry the noise that must not pass. Noise differs from scan to scan, and within a slice from the shoulders to the
    neck, so one strength for all would blur the quiet ones.

    A. Buades, B. Coll, J.-M. Morel, CVPR 2005, vol. 2, p. 60-65; every displacement is one moving average, as in
    J. Darbon et al., ISBI 2008.

    Args:
        strength: filtering parameter over :func:`quiet_deviation`.
        search_px: farthest displacement, in rows and in columns.
        patch_px: side of the patches that are compared; odd.
        bound: how far a generator may move away from the skip, over :func:`quiet_deviation`.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out.
    """

    __jit_unused_properties__ = ("reach_px",)

    def __init__(self, *, strength: float = 1.35, search_px: int = 4, patch_px: int = 5, bound: float = 3.0) -> None:
        super().__init__()
        self.strength = strength
        self.search_px = search_px
        self.patch_px = patch_px
        self.bound = bound

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output."""
        return max(quiet_deviation_reach_px(), self.search_px + self.patch_px // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Average those pixels whose surroundings are alike."""
        return self.averaged(x, quiet_deviation(x))

    def averaged(self, x: Tensor, noise: Tensor) -> Tensor:
        """The same, where the noise around each pixel is known already."""
        return non_local_means(x, self.strength * noise, self.search_px, self.patch_px)


def non_local_means(x: Tensor, h: Tensor, search_px: int, patch_px: int) -> Tensor:
    """``sum w x / sum w`` over displacements, ``w = exp(-d^2 / h^2)``, d^2 the mean squared difference of two patches.

    Args:
        x: (batch, 1, rows, columns).
        h: in the units of ``x``, of the same shape.
        search_px: farthest displacement, in rows and in columns.
        patch_px: side of the patches; odd.

    Returns:
        The shape of ``x``.
    """
    precision = h.clamp_min(1e-4).square().reciprocal()  # flat, noiseless places
    if not is_scripting():  # noqa: SIM102 - TorchScript leaves out what stands below this condition alone
        if patch_px == COMPILED_PATCH_PX and _plain_cpu_images(x, precision):
            return _compiled(x, precision, search_px)
    return _displaced(x, precision, search_px, patch_px)


def _displaced(x: Tensor, precision: Tensor, search_px: int, patch_px: int) -> Tensor:
    """In torch: for gradients, other devices and other dtypes."""
    rows, columns = x.shape[-2], x.shape[-1]
    r = search_px
    padded = pad(x, [r, r, r, r], mode="reflect")
    total, weights = x.clone(), torch.ones_like(x)
    for row in range(2 * r + 1):
        for column in range(2 * r + 1):
            if row != r or column != r:
                neighbour = padded[:, :, row : row + rows, column : column + columns]
                weight = torch.exp(-box_mean((neighbour - x).square(), patch_px) * precision)
                total = total + weight * neighbour
                weights = weights + weight
    return total / weights


@torch.jit.unused
def _plain_cpu_images(x: Tensor, precision: Tensor) -> bool:
    """Whether the compiled path may be taken."""
    learning = torch.is_grad_enabled() and (x.requires_grad or precision.requires_grad)
    tracing: bool = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]
    return HAS_NUMBA and x.device.type == "cpu" and x.dtype == torch.float32 and not learning and not tracing


@torch.jit.unused
def _compiled(x: Tensor, precision: Tensor, search_px: int) -> Tensor:
    from iscl_monai.networks import numba_skip  # numba takes half a second to import

    images, precisions = (t.detach().reshape(-1, *t.shape[-2:]).contiguous().numpy() for t in (x, precision))
    done = [numba_skip.non_local_means(i, p, search_px) for i, p in zip(images, precisions, strict=True)]
    return torch.from_numpy(np.stack(done)).reshape(x.shape)
