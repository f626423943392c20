"""One stack of sections for cross-validation: blocks along z with gaps between them, and their roles in each fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from iscl_monai.errors import ConfigRefusal, DatalistRefusal

FEWEST_BLOCKS = 3
"""Test, clean and noisy; a fourth block is for validation."""

PROTOCOLS = ("blocks", "permuted")

Numbers = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BlockRequest:
    """How to divide a stack.

    Args:
        blocks: number of blocks, and of folds.
        gap_nm: least distance of two sections of different blocks; not used by ``permuted``.
        number_nm: distance of two sections whose numbers differ by 1.
        protocol: ``blocks``: neighbours stay together. ``permuted``: sections in random order, as in the demo of the
            method's authors; its parts share what neighbouring sections have in common.
        seed: of the random order.

    Raises:
        ConfigRefusal: if a value makes no sense.
    """

    blocks: int = 4
    gap_nm: float
    number_nm: float
    protocol: str = "blocks"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blocks < FEWEST_BLOCKS:
            raise ConfigRefusal(
                f"{self.blocks} blocks", allowed=f"{FEWEST_BLOCKS} or more: test, clean, noisy", cure="give --blocks 4"
            )
        if self.protocol not in PROTOCOLS:
            raise ConfigRefusal(f"protocol {self.protocol!r}", allowed=", ".join(PROTOCOLS), cure="give one of them")
        for name, value in (("gap", self.gap_nm), ("number-nm", self.number_nm)):
            if not 0 < value < math.inf:
                raise ConfigRefusal(f"{name} {value:g} nm", allowed="more than 0 nm", cure="give the distance")


@dataclass(frozen=True)
class Fold:
    """What each block is for; the numbers of its sections, ascending."""

    test: Numbers
    clean: Numbers
    noisy: Numbers
    validation: Numbers


def make_blocks(numbers: Sequence[int], request: BlockRequest) -> tuple[Numbers, ...]:
    """Cut a stack into blocks of one size, as large as the gaps allow.

    Args:
        numbers: of the sections, ascending.
        request: how.

    Returns:
        The numbers of each block; what lies in the gaps or is left over at the end is in none.

    Raises:
        DatalistRefusal: too few sections.
    """
    if request.protocol == "permuted":
        size = len(numbers) // request.blocks
        order = np.random.default_rng(request.seed).permutation(np.array(numbers, np.int64))
        found = [order[index * size : (index + 1) * size] for index in range(request.blocks)] if size else []
        blocks = [tuple(sorted(int(number) for number in block)) for block in found]
    else:
        sizes = range(len(numbers) // request.blocks, 0, -1)
        blocks = next((fit for size in sizes if (fit := _placed(numbers, size, request))), [])
    if not blocks:
        raise DatalistRefusal(
            f"{len(numbers)} sections, {(numbers[-1] - numbers[0]) * request.number_nm:g} nm from first to last",
            allowed=f"enough for {request.blocks} blocks with {request.gap_nm:g} nm between them",
            cure="give fewer blocks, a smaller gap, or more sections",
        )
    return tuple(blocks)


def _placed(numbers: Sequence[int], size: int, request: BlockRequest) -> list[Numbers]:
    """Blocks of ``size`` from the first section on, each as soon as the gap allows; none when they do not fit."""
    blocks: list[Numbers] = []
    start = 0
    while len(blocks) < request.blocks:
        block = tuple(numbers[start : start + size])
        if len(block) < size:
            return []
        blocks.append(block)
        start += size
        while start < len(numbers) and _closer(numbers[start] - block[-1], request):
            start += 1
    return blocks


def _closer(step: int, request: BlockRequest) -> bool:
    return abs(step) * request.number_nm < request.gap_nm * (1 - 1e-9)


def make_folds(blocks: Sequence[Numbers]) -> tuple[Fold, ...]:
    """Let the roles go round: each block is the test once.

    In the order of the blocks: test, clean, noisy, validation. With more than four, clean and noisy get several; with
    three there is no validation.
    """
    count = len(blocks)
    held_out = 1 if count == FEWEST_BLOCKS else 2
    clean = (count - held_out) // 2
    folds = []
    for first in range(count):
        turned = [blocks[(first + index) % count] for index in range(count)]
        pools = turned[1 : 1 + count - held_out]
        folds.append(
            Fold(
                test=turned[0],
                clean=_joined(pools[:clean]),
                noisy=_joined(pools[clean:]),
                validation=turned[-1] if held_out == 2 else (),
            )
        )
    return tuple(folds)


def _joined(blocks: Sequence[Numbers]) -> Numbers:
    return tuple(sorted(number for block in blocks for number in block))


def least_distance_nm(fold: Fold, number_nm: float) -> float:
    """How close two sections of different roles come."""
    roles = [role for role in (fold.test, fold.clean, fold.noisy, fold.validation) if role]
    closest = min(
        min(abs(one - other) for one in roles[index] for other in others)
        for index in range(len(roles))
        for others in roles[index + 1 :]
    )
    return closest * number_nm


def nearest_pairs(blocks: Sequence[Numbers], most: int = 16) -> list[tuple[int, int]]:
    """Pairs of sections of different blocks that are nearest to each other, at most so many."""
    owner = {number: index for index, block in enumerate(blocks) for number in block}
    ordered = sorted(owner)
    pairs = [(one, other) for one, other in pairwise(ordered) if owner[one] != owner[other]]
    return sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair))[:most]
