"""The progress bar of every verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iscl_monai.spoken import progress_disabled


@contextmanager
def progress_bar(unit: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    """A bar on standard error; none where nobody looks (not a terminal).

    Args:
        unit: what is counted, in the plural.
        total: how many there will be, when known.

    Yields:
        To be called with the number done since the last call.
    """
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", disable=progress_disabled()) as bar:
        yield bar.update
