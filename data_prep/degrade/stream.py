"""Random numbers of a degradation: one generator per image, whatever else is degraded beside it."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *words: object) -> np.random.Generator:
    """The generator of one image.

    Args:
        seed: of the run.
        words: what tells the image from others: kind of degradation, role, number. The same words give the same noise.
    """
    text = "\0".join(map(str, (seed, *words)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
