"""Watches what is denoised, and says where its noise is unlike that of the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iscl_monai.inference.plan import Plan
from iscl_monai.inference.stream import DenoisedSlice
from iscl_monai.quality.familiarity import evenly, noise_character, unfamiliar_noise
from iscl_monai.released import record_in


def training_noise(bundle: Path, weights: str | None = None) -> dict[str, list[float]] | None:
    """Ranges of the noise that a bundle's weights were trained on; None if they do not say."""
    try:
        ranges = json.loads(record_in(bundle, weights).read_text(encoding="utf-8")).get("noise")
    except (OSError, ValueError, AttributeError):
        return None
    return ranges if isinstance(ranges, dict) else None


class FamiliarityWatcher:
    """A :class:`iscl_monai.inference.series.Watcher` that keeps a few slices of each series until it ends.

    Args:
        ranges: of :func:`training_noise`.

    Attributes:
        warnings: of the series so far, a sentence each, with the series' title.
    """

    def __init__(self, ranges: dict[str, list[float]] | None) -> None:
        self.ranges = ranges
        self.warnings: list[tuple[str, str]] = []
        self._title = ""
        self._looked_at: set[int] = set()
        self._slices: list[Any] = []

    def begins(self, title: str, count: int) -> None:
        """The next series."""
        self._judge()
        self._title, self._looked_at = title, set(evenly(count))

    def slice_written(self, written: DenoisedSlice) -> None:
        """The next slice of it."""
        if written.index in self._looked_at:
            self._slices.append(written.before_hu.copy())

    def gave_up(self) -> None:
        """Forget the series that was begun last."""
        self._slices = []

    def ends(self, folder: Path, done: Plan) -> None:
        """Judge the last series."""
        self._judge()

    def _judge(self) -> None:
        if self._slices and self.ranges:
            found = unfamiliar_noise(noise_character(self._slices), self.ranges)
            self.warnings += [(self._title, sentence) for sentence in found]
        self._slices = []
