"""Is a scan like those that weights were trained on? Judged by a few of its slices, before the first is denoised."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iscl_monai.inference.reconstructions import unseen_reconstructions
from iscl_monai.quality.familiarity import (
    GEOMETRY,
    NOISE,
    Difference,
    Image,
    NoiseCharacter,
    differences_from,
    is_measured,
    noise_character,
)
from iscl_monai.released import record_in


@dataclass(frozen=True)
class Comparison:
    """A scan beside the training of weights.

    Args:
        unlike: in what it is unlike all scans of the training.
        unmeasured: a sentence: what of its noise the weights know of their training, and cannot be measured in the
            scan; ``""`` when all of it can.
    """

    unlike: tuple[Difference, ...] = ()
    unmeasured: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What weights say about the scans of their training.

    Args:
        noise: ranges (:func:`iscl_monai.quality.familiarity.ranges_of`) of its loudness and fineness, in so far as they
            say.
        geometry: ranges of pixel size and slice thickness, likewise.
        reconstructions: names of iterative reconstructions; None: they do not say.
    """

    noise: Mapping[str, Sequence[float]] = field(default_factory=dict)
    geometry: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reconstructions: Sequence[str] | None = None

    @classmethod
    def of_bundle(cls, bundle: Path, weights: str | None = None) -> TrainingRecord:
        """What is recorded beside a bundle's weights; of what is absent or damaged there, nothing is said.

        Args:
            bundle: its folder.
            weights: which of the bundle's (:func:`iscl_monai.released.weights_in`).
        """
        return cls._of_record(record_in(bundle, weights))

    @classmethod
    def of_weights(cls, weights: Path | str) -> TrainingRecord:
        """As :meth:`of_bundle`, by the file of the weights, a bundle's ``models/model.pt`` or released ones."""
        own = Path(weights).name == "model.pt"
        return cls._of_record(Path(weights).with_name("training.json" if own else "released.json"))

    @classmethod
    def _of_record(cls, path: Path) -> TrainingRecord:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            content = None
        record: dict[str, Any] = content if isinstance(content, dict) else {}
        noise, names = record.get("noise"), record.get("reconstructions")
        return cls(
            noise=_valid_ranges(noise, NOISE) if isinstance(noise, dict) else {},
            geometry=_valid_ranges(record, GEOMETRY),
            reconstructions=names if _are_names(names) else None,
        )

    @property
    def knows_noise(self) -> bool:
        """Whether the weights say both how loud and how fine the noise of their training was."""
        return all(name in self.noise for name in NOISE)

    def compare(
        self, slices_hu: Sequence[Image], geometry: Mapping[str, float], reconstructions: Iterable[str] = ()
    ) -> Comparison:
        """How a scan is unlike all scans of the training, and whether its noise can be compared with theirs.

        Args:
            slices_hu: a few slices of it, HU (row, column) each.
            geometry: of :func:`iscl_monai.quality.familiarity.geometry_of`.
            reconstructions: that its headers name.
        """
        unseen = unseen_reconstructions(reconstructions, self.reconstructions)
        voxels = differences_from(self.geometry, geometry)
        if not self.noise:
            return Comparison((*voxels, *unseen))
        character = noise_character(slices_hu)
        noise = differences_from(self.noise, vars(character))
        return Comparison((*noise, *voxels, *unseen), self._unmeasured(character))

    def _unmeasured(self, character: NoiseCharacter) -> str:
        lacking = [name for name in self.noise if not is_measured(vars(character)[name])]
        if not lacking:
            return ""
        what = "its noise" if "noise" in lacking else "the frequency of its noise"
        return f"{what} cannot be measured, so nobody knows whether it is like the training"


def in_short(differences: Sequence[Difference]) -> str:
    """What a derived object says of them; ``""`` for none."""
    return f"Unlike the training: {', '.join(one.short for one in differences)}" if differences else ""


def _valid_ranges(content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Sequence[float]]:
    return {name: content[name] for name in names if _is_range(content.get(name))}


def _is_range(value: Any) -> bool:
    """Whether it is a least and a largest of something that is measured (``is_measured``)."""
    if not isinstance(value, list) or [type(one) in (int, float) for one in value] != [True, True]:
        return False
    return bool(0 < value[0] <= value[1] <= sys.float_info.max)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
