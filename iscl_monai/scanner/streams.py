"""Random numbers for the noise of slices: one stream per seed, dose and slice, and neighbours that share some of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MOST_SHARED = 0.7
"""Correlation of neighbours that a moving average over three slices can have (its limit is the root of a half)."""


class NormalSource(Protocol):
    """What gives independent standard normal numbers, as :class:`numpy.random.Generator` does."""

    def standard_normal(self, size: Any = ..., dtype: Any = ...) -> Any:
        """Numbers of a shape."""


def noise_source(seed: int, fraction: float, name: str) -> np.random.Generator:
    """One stream of random numbers per seed, dose and slice, whatever else is simulated."""
    digest = hashlib.blake2b(f"{seed}|{fraction:.6g}|{name}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


class SharedSource:
    """Standard normal numbers of one slice that correlate with those of its neighbours.

    A moving average over the slices' own streams, with the weights ``b, 1, b``: neighbours correlate by
    ``2 b / (1 + 2 b^2)``, slices two apart by ``b^2 / (1 + 2 b^2)``. What a slice gets follows from its name and its
    neighbours' alone, so that slices can be made in any order, and some of them only.

    Args:
        seed: see :func:`noise_source`.
        fraction: likewise.
        name: of the slice.
        neighbours: names of the slices below and above it; None where there is none.
        correlation: of the noise of two neighbours, in [0, :data:`MOST_SHARED`].
    """

    def __init__(
        self, seed: int, fraction: float, name: str, neighbours: tuple[str | None, str | None], correlation: float
    ) -> None:
        share = 0.0 if correlation == 0 else (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
        # At an end the missing neighbour's stream is one that nobody else has: the noise is as strong there.
        beside = [other or f"{name}|end {side}" for side, other in enumerate(neighbours)] if share else []
        self._streams = [noise_source(seed, fraction, one) for one in (name, *beside)]
        total = math.sqrt(1 + 2 * share**2)
        self._weights = [np.float32(weight / total) for weight in (1.0, share, share)[: len(self._streams)]]

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> NDArray[Any]:
        """Numbers of a shape."""
        parts = zip(self._weights, self._streams, strict=True)
        first, *others = (weight * stream.standard_normal(size, dtype=dtype) for weight, stream in parts)
        return np.asarray(sum(others, start=first), dtype=dtype)


def neighbour_names(names: Sequence[str], positions_mm: Sequence[float]) -> list[tuple[str | None, str | None]]:
    """Below and above each slice, where the next one is as near as usual.

    Args:
        names: of the slices, in their order.
        positions_mm: of the slices, ascending.
    """
    if len(names) < 2:
        return [(None, None)] * len(names)
    gaps = np.diff(positions_mm)
    linked = (gaps > 0) & (gaps <= 1.25 * float(np.median(gaps[gaps > 0]) if (gaps > 0).any() else 0))
    below = [None, *(name if link else None for name, link in zip(names[:-1], linked, strict=True))]
    above = [*(name if link else None for name, link in zip(names[1:], linked, strict=True)), None]
    return list(zip(below, above, strict=True))
