"""How many pictures a page holds: as many slices of each viewer as fit into a file that can be mailed."""

from __future__ import annotations

from collections.abc import Sequence

from iscl_monai.report.viewer import Viewer

MOST_PAGE_BYTES = 5_000_000
MOST_PICTURE_BYTES = 4_400_000
"""The rest is for words, tables and curves."""


def within(viewers: Sequence[Viewer], most: int = MOST_PICTURE_BYTES) -> list[Viewer | None]:
    """Thin out the slices of viewers, evenly spread and equally many of each, until all fit.

    Args:
        viewers: in the order of what is to be shown first.
        most: characters that all pictures may take together.

    Returns:
        Each viewer with the slices that fit; None where not even one does.
    """
    found: list[Viewer | None] = []
    left = most
    for viewer in viewers:  # first of all one slice of each
        one = viewer.keeping(spread(len(viewer.slices), 1))
        found.append(one if _size(one) <= left else None)
        left -= _size(found[-1])
    shown = [index for index, viewer in enumerate(found) if viewer is not None]
    for count in range(2, 1 + max((len(viewers[index].slices) for index in shown), default=0)):
        more = {index: viewers[index].keeping(spread(len(viewers[index].slices), count)) for index in shown}
        if sum(map(_size, more.values())) > most:
            break
        for index, viewer in more.items():
            found[index] = viewer
    return found


def _size(viewer: Viewer | None) -> int:
    return 0 if viewer is None else sum(one.size for one in viewer.slices)


def spread(count: int, wanted: int) -> list[int]:
    """So many of ``count`` indices, each in the middle of its part."""
    wanted = min(count, wanted)
    return [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]
