"""Is a scan like those that weights were trained on? Judged by a few of its slices, before the first is denoised."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from iscl_monai.inference.header_names import NO_NAMES, HeaderNames, body_parts_not_seen, kernels_not_seen
from iscl_monai.inference.reconstructions import unseen_reconstructions
from iscl_monai.quality.appearance import APPEARANCE, median_appearance
from iscl_monai.quality.composition import COMPOSITION, composition_of
from iscl_monai.quality.dark import DARK_NOISE, dark_character
from iscl_monai.quality.familiarity import (
    GEOMETRY,
    NOISE,
    Difference,
    Image,
    differences_from,
    is_measured,
    noise_character,
)
from iscl_monai.released import record_beside, record_in


@dataclass(frozen=True)
class Comparison:
    """A scan beside the training of weights.

    Args:
        unlike: in what it is unlike all scans of the training.
        unmeasured: a sentence: what of its noise the weights know of their training, and neither can be measured in the
            scan nor is vouched for by a kernel that the training has seen; ``""`` when there is no such thing.
        notes: sentences on what is no reason to warn, such as a kernel not seen whose noise is like the training's.
    """

    unlike: tuple[Difference, ...] = ()
    unmeasured: str = ""
    notes: tuple[str, ...] = ()


NOT_COMPARED = Comparison()
NO_DARK = (
    "no dark around it shows noise, so nobody knows whether its noise is like the training; look at what was removed"
)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What weights say about the scans of their training.

    Args:
        noise: ranges (:func:`iscl_monai.quality.familiarity.ranges_of`) of its loudness and fineness, in so far as they
            say.
        geometry: ranges of pixel size and slice thickness, likewise.
        composition: ranges of the body's size and tissues, likewise.
        appearance: of micrographs, ranges of brightness, contrast and detail, and of MR magnitude those of loudness and
            fineness of the noise in the dark, likewise.
        kernels: names by vendor; None: they do not say.
        body_parts: that headers named; None: they do not say.
        reconstructions: names of iterative reconstructions; None: they do not say.
    """

    noise: Mapping[str, Sequence[float]] = field(default_factory=dict)
    geometry: Mapping[str, Sequence[float]] = field(default_factory=dict)
    composition: Mapping[str, Sequence[float]] = field(default_factory=dict)
    appearance: Mapping[str, Sequence[float]] = field(default_factory=dict)
    kernels: Mapping[str, Sequence[str]] | None = None
    body_parts: Sequence[str] | None = None
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
        return cls._of_record(record_beside(weights))

    @classmethod
    def _of_record(cls, path: Path) -> TrainingRecord:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            content = None
        record: dict[str, Any] = content if isinstance(content, dict) else {}
        kernels = record.get("kernels")
        return cls(
            noise=_valid_ranges(record.get("noise"), NOISE),
            geometry=_valid_ranges(record, GEOMETRY),
            composition=_valid_ranges(record.get("composition"), COMPOSITION),
            appearance=_valid_ranges(record.get("appearance"), (*APPEARANCE, *DARK_NOISE)),
            kernels=kernels if isinstance(kernels, dict) and all(map(_are_names, kernels.values())) else None,
            body_parts=_valid_names(record.get("body_parts")),
            reconstructions=_valid_names(record.get("reconstructions")),
        )

    @property
    def knows_noise(self) -> bool:
        """Whether the weights say both how loud and how fine the noise of their training was."""
        return all(name in self.noise for name in NOISE)

    def compare(
        self, slices_hu: Sequence[Image], geometry: Mapping[str, float], names: HeaderNames = NO_NAMES
    ) -> Comparison:
        """How a scan is unlike all scans of the training, and whether its noise can be compared with theirs.

        Args:
            slices_hu: a few slices of it, HU (row, column) each.
            geometry: of :func:`iscl_monai.quality.familiarity.geometry_of`.
            names: that its headers hold.
        """
        noise = self._compare_noise(slices_hu, names)
        region = self._compare_region(slices_hu, geometry.get("pixel_mm"), names)
        voxels = differences_from(self.geometry, geometry)
        unseen = unseen_reconstructions(names.reconstructions, self.reconstructions)
        return Comparison(
            (*noise.unlike, *voxels, *region.unlike, *unseen), noise.unmeasured, (*noise.notes, *region.notes)
        )

    def compare_micrographs(self, images: Iterable[Image]) -> list[Difference]:
        """In what a stack is unlike all images of the training.

        Args:
            images: some of its sections, (row, column), grey levels 0 to 255.
        """
        return differences_from(self.appearance, median_appearance(images)) if self.appearance else []

    def compare_magnitude(self, images: Sequence[Image]) -> Comparison:
        """Whether the noise of an MR magnitude is like that of the training.

        Args:
            images: its slices, (row, column) each, thousandths of the window.
        """
        if not self.appearance:
            return NOT_COMPARED
        dark = dark_character(images)
        lacking = [name for name in self.appearance if not is_measured(dark.get(name, 0.0))]
        return Comparison(tuple(differences_from(self.appearance, dark)), NO_DARK if lacking else "")

    def _compare_noise(self, slices_hu: Sequence[Image], names: HeaderNames) -> Comparison:
        """By loudness and fineness, and by the kernel's name where the fineness does not settle it."""
        character = vars(noise_character(slices_hu)) if self.noise else {}
        unlike = differences_from(self.noise, character)
        lacking = [name for name in self.noise if not is_measured(character[name])]
        unseen = kernels_not_seen(names.kernels, self.kernels)
        if unseen is not None and _is_settled("fineness", self.noise, character):
            note = f"{unseen.sentence}; its noise is as fine as that of the training, which counts for more"
            return Comparison(tuple(unlike), _unmeasured(lacking), (note,))
        if unseen is not None:
            return Comparison((*unlike, unseen), _unmeasured(lacking))
        if lacking == ["fineness"] and names.kernels and self.kernels is not None:
            note = "the frequency of its noise is not measured; its kernel, which the training has seen, vouches for it"
            return Comparison(tuple(unlike), notes=(note,))
        return Comparison(tuple(unlike), _unmeasured(lacking))

    def _compare_region(self, slices_hu: Sequence[Image], pixel_mm: float | None, names: HeaderNames) -> Comparison:
        """By the image, and by the header's name where the image does not settle it."""
        known = self.composition and pixel_mm is not None
        composition = composition_of(slices_hu, pixel_mm) if known and pixel_mm is not None else {}
        unlike = differences_from(self.composition, composition)
        unseen = body_parts_not_seen(names.body_parts, self.body_parts)
        if unseen is None:
            return Comparison(tuple(unlike))
        if composition and not unlike:
            return Comparison(notes=(f"{unseen.sentence}; its image is like the training's, which counts for more",))
        return Comparison((*unlike, unseen))


def _is_settled(name: str, ranges: Mapping[str, Sequence[float]], scan: Mapping[str, float]) -> bool:
    """Whether a quantity is known of the training, measured in a scan, and alike."""
    return name in ranges and is_measured(scan[name]) and not differences_from({name: ranges[name]}, scan)


def _unmeasured(lacking: Sequence[str]) -> str:
    if not lacking:
        return ""
    what = "its noise" if "noise" in lacking else "the frequency of its noise"
    return f"{what} cannot be measured, so nobody knows whether it is like the training"


def in_short(differences: Sequence[Difference]) -> str:
    """What a derived object says of them; ``""`` for none."""
    return f"Unlike the training: {', '.join(one.short for one in differences)}" if differences else ""


def _valid_ranges(content: Any, names: Iterable[str]) -> dict[str, Sequence[float]]:
    ranges = content if isinstance(content, dict) else {}
    return {name: ranges[name] for name in names if _is_range(ranges.get(name))}


def _valid_names(content: Any) -> list[str] | None:
    return content if _are_names(content) else None


def _is_range(value: Any) -> bool:
    """Whether it is a least and a largest of something that is measured (``is_measured``)."""
    if not isinstance(value, list) or [type(one) in (int, float) for one in value] != [True, True]:
        return False
    return bool(0 < value[0] <= value[1] <= sys.float_info.max)


def _are_names(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
