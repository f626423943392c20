"""What a trained denoiser is compared with: classical filters behind the same face."""

from __future__ import annotations

import difflib

from iscl_monai.baselines.classical import ClassicalFilter
from iscl_monai.baselines.filters import (
    BM3D,
    Bilateral,
    Gaussian,
    LocalNonLocalMeans,
    NonLocalMeans,
    SigmaFilter,
    TotalVariation,
)
from iscl_monai.baselines.noise_level import noise_level_hu
from iscl_monai.errors import ConfigRefusal
from iscl_monai.inference.slice_denoiser import SliceDenoiser

CLASSICAL: dict[str, type[ClassicalFilter]] = {
    method.name: method
    for method in (Gaussian, SigmaFilter, Bilateral, NonLocalMeans, LocalNonLocalMeans, TotalVariation, BM3D)
}
"""Every classical filter, by name; call one with ``strength=`` or without."""


def classical(name: str, *, strength: float | None = None) -> SliceDenoiser:
    """A classical filter, ready for :func:`iscl_monai.inference.denoise_volume` and all that takes a denoiser.

    Args:
        name: a key of :data:`CLASSICAL`.
        strength: see :class:`iscl_monai.baselines.classical.ClassicalFilter`; None: as tuned.

    Raises:
        ConfigRefusal: an unknown name, or a strength that is negative or not finite.
    """
    if name not in CLASSICAL:
        near = difflib.get_close_matches(name.lower(), CLASSICAL, n=1, cutoff=0.4)
        raise ConfigRefusal(
            f"classical filter {name!r}",
            allowed=", ".join(CLASSICAL),
            cure=f"did you mean {near[0]!r}?" if near else "choose one of these",
        )
    return CLASSICAL[name](strength=strength)


__all__ = ["CLASSICAL", "ClassicalFilter", "classical", "noise_level_hu"]
