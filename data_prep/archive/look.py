"""The few slices of each series whose pixels are looked at, once until they change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.archive.measure import CRASHED, Measured, chosen_slices, measure
from data_prep.archive.pool import spread
from data_prep.archive.record import FileRecord
from data_prep.archive.store import FileState, Store
from iscl_monai.dicom.headers import MULTIFRAME_CT


@dataclass(frozen=True, slots=True)
class Look:
    """The slices of one series whose pixels are looked at, each with its neighbour."""

    pairs: tuple[tuple[Path, Path], ...]
    mark: bytes
    thumbnail: bool


def look_of(records: Sequence[FileRecord], states: Sequence[FileState], order: Sequence[int]) -> Look:
    """Which slices of a series to look at.

    Args:
        records: of its files.
        states: of the same files.
        order: their indices from the lowest slice to the highest; empty: unknown.
    """
    if any(record.header and record.header.sop_class in MULTIFRAME_CT for record in records):
        return Look((), b"", False)
    order = order or range(len(records))
    pairs = [(states[order[one]], states[order[other]]) for one, other in chosen_slices(len(records))]
    thumbnail = not any(record.facts and record.facts.burned_in for record in records)
    looked_at = [(os.fsencode(state.path), state.size, state.mtime_ns) for pair in pairs for state in pair]
    mark = hashlib.blake2b(repr((looked_at, thumbnail)).encode()).digest()
    return Look(tuple((one.path, other.path) for one, other in pairs), mark, thumbnail)


def measure_looks(
    store: Store, looks: Sequence[Look], workers: int, on_series: Callable[[int], object]
) -> dict[bytes, Measured]:
    """What the pixels tell, by the look's mark; what was measured before is not measured again."""
    found: dict[bytes, Measured] = {}

    def missing() -> Iterator[Look]:
        for look in looks:
            known = _known(store.measured(look.mark)) if look.pairs else None
            if known is not None:
                found[look.mark] = known
            elif look.pairs:
                yield look
                continue
            on_series(1)

    for look, measured in spread(_measure, missing(), workers):
        found[look.mark] = measured or Measured(problem=CRASHED)
        store.keep_measured(look.mark, found[look.mark].to_json())
        on_series(1)
    return found


def _known(text: str | None) -> Measured | None:
    """What was kept; None when it cannot be understood, and is to be measured again."""
    try:
        return None if text is None else Measured(**json.loads(text))
    except (TypeError, ValueError):
        return None


def _measure(look: Look) -> Measured:
    return measure(look.pairs, thumbnail=look.thumbnail)
