"""Where the body is in a CT slice: inside the skin, lungs and bowel included, table, tubes and blankets not."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask: TypeAlias = NDArray[np.bool_]

SKIN_HU = -500.0
TABLE_HALF_THICKNESS_PX = 3
SMALLEST_PART = 0.02
"""Of the largest part: an arm is 5 % of the trunk."""

_THICK_TABLE_HALF_PX = 8
_LUNG_HU = (-950.0, -500.0)
_MOSTLY = 0.6
_FLAT = 0.12
"""Slope of a table top; of the back of a patient, some pixels beside the middle, more."""
_WING_PX = 16


def body_of_slice(image_hu: NDArray[np.float32]) -> Mask:
    """The body in one slice.

    Tissue above -500 HU, without what is thinner than 7 pixels (table tops, tubes); the connected parts of at least
    :data:`SMALLEST_PART` of the largest one (arms and legs, not crumbs), holes filled. A lung that the border of the
    picture cuts is a hole, too: air that is lung by its HU and has body around it. Then tables up to 16 pixels thick
    are taken away: what of a part is thinner, and between two flat pieces of it on both sides what lies below their
    tops.

    Args:
        image_hu: HU (row, column).

    Returns:
        bool (row, column); all False in a slice without a body.
    """
    # Continue the picture past its border, or an opening would round off a body cut by the field of view.
    reach = 2 * _THICK_TABLE_HALF_PX
    padded_hu = np.pad(image_hu, reach, mode="edge")
    parts = _parts(_opened(padded_hu > SKIN_HU, TABLE_HALF_THICKNESS_PX))
    filled = np.asarray(ndimage.binary_fill_holes(_with_cut_lungs(padded_hu, parts)), dtype=bool)
    body = _parts(_without_table(filled))
    inside: Mask = body[reach:-reach, reach:-reach]
    return inside


def _opened(mask: Mask, radius_px: int) -> Mask:
    """Without what no disc of this radius fits into."""
    if not mask.any():
        return mask
    core = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] > radius_px + 0.25
    if not core.any():
        return np.zeros_like(mask)
    opened: Mask = ndimage.distance_transform_edt(~core) <= radius_px + 0.25
    return opened & mask


def _parts(mask: Mask) -> Mask:
    """The connected parts that are not small beside the largest."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes > 0) & (sizes >= SMALLEST_PART * sizes.max())
    found: Mask = kept[labels]
    return found


def _with_cut_lungs(image_hu: NDArray[np.float32], parts: Mask) -> Mask:
    """Parts, and regions of lung that reach the border of the picture and have mostly body around them."""
    lowest, highest = _LUNG_HU
    # Smoothed: noise in air reaches lung, and noise in lung air.
    smooth_hu = ndimage.uniform_filter(image_hu, 7)
    lungs = _opened((smooth_hu > lowest) & (smooth_hu < highest) & ~parts, TABLE_HALF_THICKNESS_PX)
    labels, count = ndimage.label(lungs)
    found = parts.copy()
    for number in range(1, count + 1):
        lung = labels == number
        top, bottom, left, right = (side.any() for side in (lung[0], lung[-1], lung[:, 0], lung[:, -1]))
        # From one side to the other goes the foam below a table.
        cut = (top or bottom or left or right) and not (top and bottom) and not (left and right)
        if not cut or lung.sum() < SMALLEST_PART * parts.sum():
            continue
        near = ndimage.distance_transform_edt(~lung) <= 2 * TABLE_HALF_THICKNESS_PX
        around = near & ~lung
        if (around & parts).sum() >= _MOSTLY * around.sum():
            found = found | near  # up to the chest wall, whose blur is neither
    return np.asarray(found, dtype=bool)


def _without_table(mask: Mask) -> Mask:
    """Parts without what is thin, and without the table below them."""
    labels, count = ndimage.label(mask)
    thick = _opened(mask, _THICK_TABLE_HALF_PX)
    largest = int(np.bincount(labels.ravel(), mask.ravel()).argmax())
    found = np.zeros_like(mask)
    for number in range(1, count + 1):
        part = labels == number
        kept = part & thick
        if number == largest and kept.sum() < part.sum() / 2:
            return mask  # a hand, a foot, a child's arm: thin all over
        wings = part & ~thick
        found |= _above_table(kept, wings) if wings.any() else kept
    return found


def _above_table(kept: Mask, wings: Mask) -> Mask:
    """A part without the slab that lies between two wings of it, one on each side, with tops on one straight line."""
    columns = np.flatnonzero(kept.any(axis=0))
    if not columns.size:
        return kept
    labels, count = ndimage.label(wings)
    tops = []
    for number in range(1, count + 1):
        wing = labels == number
        across = np.flatnonzero(wing.any(axis=0))
        if across.size < _WING_PX or not wing.any(axis=1).sum() <= across.size:
            continue
        top = wing[:, across].argmax(axis=0)
        slope = np.polyfit(across, top, 1)[0]
        if abs(slope) <= _FLAT:
            tops.append((float(across.mean()), float(np.median(top))))
    middle = columns.mean()
    left = [top for top in tops if top[0] < middle]
    right = [top for top in tops if top[0] > middle]
    if not left or not right:
        return kept
    (left_x, left_y), (right_x, right_y) = min(left), max(right)
    if abs(right_y - left_y) > _FLAT * (right_x - left_x):
        return kept
    line = np.interp(np.arange(kept.shape[1]), (left_x, right_x), (left_y, right_y))
    below = np.arange(kept.shape[0])[:, None] >= line
    # A table lies below the body: above the line is more of it.
    above: Mask = kept & ~below
    return above if above.sum() > 3 / 4 * kept.sum() else kept
