"""How many small lesions were removed, as a share with its interval.

E. B. Wilson, J. Am. Stat. Assoc. 22, 1927, doi 10.1080/01621459.1927.10502953.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iscl_monai.errors import ImageRefusal

REMOVED_BELOW = 0.5
"""A lesion that keeps less of its contrast counts as removed."""
NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with the Wilson interval of the share (95 %).

    Args:
        count: 0 ... total.
        total: 1 or more.
        low: lower end of the interval, 0 or more.
        high: upper end of it, at most 1.
    """

    count: int
    total: int
    low: float
    high: float


def wilson(count: int, total: int) -> Share:
    """The share ``count / total`` with its 95 % interval after Wilson.

    Raises:
        ImageRefusal: if ``count`` of ``total`` is no share.
    """
    if not 0 <= count <= total or total < 1:
        raise ImageRefusal(f"{count} of {total}", allowed="0 <= count <= total, total >= 1", cure="count something")
    square, share = NORMAL_95**2 / total, count / total
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return Share(count=count, total=total, low=max(0.0, float(middle - half)), high=min(1.0, float(middle + half)))
