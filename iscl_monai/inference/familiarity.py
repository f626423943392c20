"""Is a scan like those that weights were trained on? Judged by a few of its slices, before the first is denoised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iscl_monai.inference.reconstructions import unseen_reconstructions
from iscl_monai.quality.familiarity import GEOMETRY, Difference, Image, differences_from, noise_character
from iscl_monai.released import record_in


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What weights say about the scans of their training.

    Args:
        noise: ranges (:func:`iscl_monai.quality.familiarity.ranges_of`); None: they do not say.
        geometry: ranges of pixel size and slice thickness, in so far as they say.
        reconstructions: names of iterative reconstructions; None: they do not say.
    """

    noise: Mapping[str, Sequence[float]] | None = None
    geometry: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reconstructions: Sequence[str] | None = None

    @classmethod
    def of_bundle(cls, bundle: Path, weights: str | None = None) -> TrainingRecord:
        """What is recorded beside a bundle's weights; nothing where there is no record, or none that can be read.

        Args:
            bundle: its folder.
            weights: which of the bundle's (:func:`iscl_monai.released.weights_in`).
        """
        try:
            content = json.loads(record_in(bundle, weights).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        record: dict[str, Any] = content if isinstance(content, dict) else {}
        noise, names = record.get("noise"), record.get("reconstructions")
        return cls(
            noise=noise if isinstance(noise, dict) else None,
            geometry={name: record[name] for name in GEOMETRY if isinstance(record.get(name), list)},
            reconstructions=[str(name) for name in names] if isinstance(names, list) else None,
        )

    def differences(
        self, slices_hu: Sequence[Image], geometry: Mapping[str, float], reconstructions: Iterable[str] = ()
    ) -> tuple[Difference, ...]:
        """How a scan is unlike all scans of the training.

        Args:
            slices_hu: a few slices of it, HU (row, column) each.
            geometry: of :func:`iscl_monai.quality.familiarity.geometry_of`.
            reconstructions: that its headers name.
        """
        noise = differences_from(self.noise, vars(noise_character(slices_hu))) if self.noise else []
        voxels = differences_from(self.geometry, geometry)
        return (*noise, *voxels, *unseen_reconstructions(reconstructions, self.reconstructions))


def in_short(differences: Sequence[Difference]) -> str:
    """What a derived object says of them; ``""`` for none."""
    return f"Unlike the training: {', '.join(one.short for one in differences)}" if differences else ""
