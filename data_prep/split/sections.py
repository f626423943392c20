"""A stack of micrographs, clean and degraded, as a datalist for each fold."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.split.blocks import (
    BlockRequest,
    Fold,
    Numbers,
    least_distance_nm,
    make_blocks,
    make_folds,
    nearest_pairs,
)
from data_prep.split.write import DATALIST, datalist_text, near
from iscl_monai.durable import whole_folder, write_file
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal
from iscl_monai.micrograph import MicrographStack, read_micrographs

FOLDS = "folds.json"
SHARED_ANATOMY = 0.15
"""Correlation of two sections above which they are said to show the same anatomy.

Measured on the fly's medulla: 0.57 at 80 nm, 0.24 at 240 nm, 0.07 at 480 nm, 0.03 at 960 nm.
"""


@dataclass(frozen=True, kw_only=True)
class StackSplit:
    """A stack divided, and what to tell about it.

    Attributes:
        path: folder with ``fold1/datalist.json`` and so on, and ``folds.json``.
        blocks: the numbers of each block.
        folds: what they are for.
        left_out: sections in no block.
        distance_nm: between the nearest sections of different roles.
        correlation: mean over the nearest sections of different blocks, of the clean images.
    """

    path: Path
    blocks: tuple[Numbers, ...]
    folds: tuple[Fold, ...]
    left_out: int
    distance_nm: float
    correlation: float
    protocol: str

    @property
    def leak(self) -> str:
        """What the folds share, in words; empty when they share nothing that is seen."""
        if self.protocol == "permuted":
            return (
                f"LEAK: permuted sections: the test has neighbours in the pools, as near as {self.distance_nm:g} nm "
                f"(correlation {self.correlation:.2f}); figures of such folds are too good"
            )
        if self.correlation > SHARED_ANATOMY:
            return (
                f"LEAK: sections on both sides of a gap are alike (correlation {self.correlation:.2f}, more than "
                f"{SHARED_ANATOMY:g}): give a larger --gap-nm"
            )
        return ""


def split_stack(
    clean: Path,
    noisy: Path,
    destination: Path,
    *,
    blocks: int = 4,
    gap_nm: float,
    number_nm: float | None = None,
    protocol: str = "blocks",
    seed: int = 0,
    specimen: str = "",
    allow_holes: bool = False,
) -> StackSplit:
    """Write a datalist for each fold of a cross-validation over one stack.

    Args:
        clean: micrographs, see :func:`iscl_monai.micrograph.read_micrographs`.
        noisy: the same sections, degraded.
        destination: folder to make.
        blocks: see :class:`data_prep.split.blocks.BlockRequest`, as the following.
        gap_nm: least distance of two blocks.
        number_nm: distance of two successive numbers; None: the spacing that the file names.
        protocol: ``blocks`` or ``permuted``.
        seed: of ``permuted``.
        specimen: what the datalist calls it; empty: the name of ``clean``.
        allow_holes: of folders whose numbers have holes.

    Raises:
        ConfigRefusal: an argument that makes no sense, or no distance of the sections.
        DatalistRefusal: stacks that do not fit each other, or too few sections.
        LeakRefusal: blocks closer than the gap.
        OutputRefusal: a destination that is taken.
    """
    clean, noisy, destination = (Path(os.path.abspath(path)) for path in (clean, noisy, destination))
    stack = read_micrographs(clean, allow_holes=allow_holes)
    _check_pair(stack, read_micrographs(noisy, allow_holes=allow_holes))
    request = BlockRequest(
        blocks=blocks, gap_nm=gap_nm, number_nm=_number_nm(stack, number_nm), protocol=protocol, seed=seed
    )
    made = make_blocks(stack.numbers, request)
    folds = make_folds(made)
    split = StackSplit(
        path=destination,
        blocks=made,
        folds=folds,
        left_out=len(stack) - sum(map(len, made)),
        distance_nm=min(least_distance_nm(fold, request.number_nm) for fold in folds),
        correlation=_correlation(stack, nearest_pairs(made)),
        protocol=protocol,
    )
    _check_gap(split, request)
    _write(split, request, clean, noisy, specimen or clean.stem)
    return split


def _write(split: StackSplit, request: BlockRequest, clean: Path, noisy: Path, specimen: str) -> None:
    with whole_folder(split.path) as folder:
        for index, fold in enumerate(split.folds, 1):
            name = f"fold{index}"
            (folder / name).mkdir()
            content = _content(fold, clean, noisy, split.path / name, specimen)
            header = {"description": _description(split, index, request), "number_nm": request.number_nm}
            text = datalist_text({**header, "least_gap_nm": split.distance_nm, **content})
            write_file(folder / name / DATALIST, lambda file, text=text: file.write(text))
        summary = (json.dumps(_summary(split, request), indent=1) + "\n").encode()
        write_file(folder / FOLDS, lambda file: file.write(summary))


def _check_pair(clean: MicrographStack, noisy: MicrographStack) -> None:
    for name in ("numbers", "rows", "columns"):
        one, other = getattr(clean, name), getattr(noisy, name)
        if one != other:
            raise DatalistRefusal(
                f"{noisy.path}: {name} {_short(other)}, of {clean.path} {_short(one)}",
                allowed="the same sections, clean and noisy",
                cure="make the noisy ones anew: python -m data_prep degrade",
            )


def _short(value: object) -> str:
    return f"{len(value)} from {value[0]} to {value[-1]}" if isinstance(value, tuple) and value else str(value)


def _number_nm(stack: MicrographStack, number_nm: float | None) -> float:
    if number_nm is not None:
        return number_nm
    if stack.spacing_nm is None or len(stack.files) > 1:
        raise ConfigRefusal(
            f"{stack.path} does not say how far its sections are from each other",
            allowed="the distance of two sections whose numbers differ by 1",
            cure="give --number-nm, e.g. 10",
        )
    return stack.spacing_nm


def _correlation(stack: MicrographStack, pairs: Sequence[tuple[int, int]]) -> float:
    """Mean correlation (Pearson) of pairs of sections, by their numbers."""
    place = {number: index for index, number in enumerate(stack.numbers)}
    found = []
    for pair in pairs:
        one, other = (stack.grey(place[number]).ravel().astype(np.float64) for number in pair)
        one, other = one - one.mean(), other - other.mean()
        norm = float(np.sqrt((one @ one) * (other @ other)))
        found.append(float(one @ other) / norm if norm else 1.0)
    return float(np.mean(found))


def _check_gap(split: StackSplit, request: BlockRequest) -> None:
    if request.protocol == "blocks" and split.distance_nm < request.gap_nm * (1 - 1e-9):
        raise LeakRefusal(
            f"two roles are {split.distance_nm:g} nm apart",
            allowed=f"{request.gap_nm:g} nm or more",
            cure="report this: the blocks were cut wrong",
        )


def _description(split: StackSplit, index: int, request: BlockRequest) -> str:
    how = f"z-blocks with {request.gap_nm:g} nm between them" if request.protocol == "blocks" else "permuted sections"
    text = f"python -m data_prep split-stack, fold {index} of {len(split.folds)}, {how}, seed {request.seed}"
    return f"{text}. {split.leak}" if split.leak else text


def _content(fold: Fold, clean: Path, noisy: Path, root: Path, specimen: str) -> dict[str, list[dict[str, Any]]]:
    clean_path, noisy_path = near(str(clean), root), near(str(noisy), root)

    def pair(numbers: Numbers) -> list[dict[str, Any]]:
        entry = {"noisy": noisy_path, "clean": clean_path, "patient": specimen, "sections": list(numbers)}
        return [entry] if numbers else []

    return {
        "noisy": [
            {"image": noisy_path, "patient": specimen, "sections": list(fold.noisy), "reference": clean_path},
        ],
        "clean": [{"image": clean_path, "patient": specimen, "sections": list(fold.clean)}],
        "validation": pair(fold.validation),
        "test": pair(fold.test),
    }


def _summary(split: StackSplit, request: BlockRequest) -> dict[str, Any]:
    return {
        "protocol": split.protocol,
        "gap_nm": request.gap_nm,
        "number_nm": request.number_nm,
        "seed": request.seed,
        "blocks": {f"B{index}": list(block) for index, block in enumerate(split.blocks, 1)},
        "left_out": split.left_out,
        "distance_nm": split.distance_nm,
        "correlation_across": round(split.correlation, 3),
        "leak": split.leak,
    }
