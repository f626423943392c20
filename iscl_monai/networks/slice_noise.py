"""The noise of each place of a whole slice, which knows more than a place can see around itself."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from iscl_monai.hu import HUWindow
from iscl_monai.networks.local import CLIPPED, quiet_deviation, quiet_deviation_reach_px

LOUDEST_OF_TISSUE = 1.3
"""Noise of the loudest places over that of the middle of soft tissue. In loud scans, where noise hides structure, lung
is 0.8 to 1.1, bone 1.1 to 1.5 and nine tenths of soft tissue up to 1.2 times as loud as its median (13 scans of 80 to
20 HU); in quiet scans lung seems 1.2 to 3.5 times as loud (9 scans of 7 to 16 HU): that is its vessels."""
BLOCK_PX = 8
LEAST_BLOCKS = 6
REACH_BLOCKS = -(-quiet_deviation_reach_px() // BLOCK_PX)
FAT_AND_ORGANS_HU = (-150.0, 200.0)
"""Local means of fat, muscle and organs with contrast medium: what tells how loud a slice is."""
SOFT_TISSUE = {"ct": FAT_AND_ORGANS_HU}
"""By domain; where there is none, no tissue tells it."""


def slice_noise(x: Tensor, hu_window: HUWindow) -> Tensor:
    """The noise of each place of whole slices: what is seen nearby, but no more than the slice has anywhere.

    Args:
        x: (batch, 1, rows, columns) in [-1, 1].
        hu_window: what [-1, 1] means.

    Returns:
        The same shape and units.
    """
    noise = quiet_deviation(x)
    return torch.minimum(noise, loudest_noise(x, noise, *soft_tissue(hu_window)))


def soft_tissue(hu_window: HUWindow, domain: str = "ct") -> tuple[float, float]:
    """Local means, in network units, between which tissue is soft; -1 and 1 where the window or domain has none."""
    if domain not in SOFT_TISSUE:
        return -1.0, 1.0
    darkest, brightest = (float(hu_window.to_network(torch.tensor(hu))) for hu in SOFT_TISSUE[domain])
    return darkest, brightest


def loudest_noise(
    x: Tensor,
    noise: Tensor,
    darkest: float,
    brightest: float,
    ratio: float = LOUDEST_OF_TISSUE,
    block_px: int = BLOCK_PX,
    least_blocks: int = LEAST_BLOCKS,
    around: int = REACH_BLOCKS,
    clipped: float = CLIPPED,
) -> Tensor:
    """The noise that no place of an image exceeds, told from its soft tissue.

    Where fine structure is everywhere (lung, mastoid cells, trabecular bone), no place nearby is quiet, and
    :func:`quiet_deviation` takes structure for noise. The noise of CT varies slowly, and soft tissue shows it.

    Args:
        x: (batch, 1, rows, columns) in [-1, 1].
        noise: its :func:`quiet_deviation`.
        darkest: local mean from which on, in the units of ``x``, tissue is soft; -1 or less: cannot be told.
        brightest: local mean up to which tissue is soft; 1 or more: cannot be told.
        ratio: of the loudest places to the median.
        block_px: side of the squares whose mean is looked at.
        least_blocks: of soft tissue that are enough to tell.
        around: blocks that the noise map sees around each.
        clipped: means beyond this are cut off by the window.

    Returns:
        (batch, 1, 1, 1), in the units of ``x``; infinite where there is no soft tissue to tell it from.
    """
    if min(x.size(2), x.size(3)) < block_px:
        return torch.full([x.size(0), 1, 1, 1], float("inf"), dtype=x.dtype, device=x.device)
    mean = avg_pool2d(x, block_px)
    # Where somebody has filled an image up with one value, and for the reach of the map around it, there is no noise to
    # be told: the map is 0 there. Air that the window clips is no filling: the map knows it.
    span = max_pool2d(x, block_px) + max_pool2d(-x, block_px)
    filled = ((span == 0) & (mean.abs() < clipped)).to(x.dtype)
    reach = 2 * around + 1
    near_filling = max_pool2d(filled, reach, 1, around) > 0
    soft = ((mean > darkest) & (mean < brightest) & ~near_filling).flatten(1)
    if darkest <= -1 or brightest >= 1:
        soft = torch.zeros_like(soft)
    # The map is smooth: the middle of each block is enough of it, and quickly sorted.
    down = torch.arange(mean.size(2), device=x.device) * block_px + block_px // 2
    right = torch.arange(mean.size(3), device=x.device) * block_px + block_px // 2
    middles = noise.index_select(2, down).index_select(3, right)
    # The lower median of the soft blocks. torch's nanmedian is the same, but neither ONNX nor OpenVINO has it.
    count = soft.sum(1)
    ascending = torch.where(soft, middles.flatten(1), float("inf")).sort(1)[0]
    median = ascending.gather(1, ((count - 1) // 2).clamp_min(0)[:, None])[:, 0]
    bound = torch.where(count >= least_blocks, ratio * median, float("inf"))
    return bound[:, None, None, None]
