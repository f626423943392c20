"""Stored grey levels as 0 (black) to 255 (white), whatever the type, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ConfigRefusal
from iscl_monai.micrograph.grey import Grey
from iscl_monai.micrograph.stack import MicrographStack

WHITE = 255.0


@dataclass(frozen=True)
class GreyScale:
    """Which stored numbers are black and white.

    Args:
        black: becomes 0.
        white: becomes 255; greater than ``black``.

    Raises:
        ConfigRefusal: no range.
    """

    black: float
    white: float

    def __post_init__(self) -> None:
        _check_range(self.black, self.white, "grey range")

    @classmethod
    def of(cls, stack: MicrographStack, grey_range: Sequence[float] | None = None) -> GreyScale:
        """The scale of a stack.

        Args:
            stack: whose type counts.
            grey_range: numbers of black and white; None: those of the type, of 8 unsigned bits only.

        Raises:
            ConfigRefusal: a range that is none, or none for other types than 8 bits: which of the numbers that such a
                type can hold a microscope uses is not known.
        """
        if grey_range is not None:
            black, white = grey_range
            _check_range(black, white, f"{stack.path}: grey range")
            return cls(black, white)
        if stack.dtype == np.uint8:
            return cls(0.0, WHITE)
        raise ConfigRefusal(
            f"{stack.path}: {stack.dtype.name}, whose grey levels of black and white are not known",
            allowed="8 unsigned bits, or a range",
            cure="give the grey levels of black and white: --grey-range LOW HIGH, or grey_range in the datalist",
        )

    @property
    def width(self) -> float:
        """Stored numbers from black to white."""
        return self.white - self.black

    def to_grey8(self, grey: Grey) -> Grey:
        """Stored numbers to 0 to 255, not clipped and not rounded; 8 unsigned bits stay as they are."""
        return np.asarray((grey - self.black) * (WHITE / self.width), np.float32)

    def stored_change(self, change: npt.NDArray[np.floating]) -> Grey:
        """A change of grey levels 0 to 255 as one of stored numbers."""
        return np.asarray(change * (self.width / WHITE), np.float32)


def _check_range(black: float, white: float, what: str) -> None:
    if not -np.inf < black < white < np.inf:
        raise ConfigRefusal(
            f"{what} {black:g} to {white:g}",
            allowed="two numbers, the lower one first",
            cure="give the stored numbers of black and white",
        )
