"""Random numbers by name: each part of a phantom has a stream of its own, so that one cannot change another."""

from __future__ import annotations

import hashlib

import numpy as np


def named_rng(seed: int, name: str) -> np.random.Generator:
    """Random numbers that depend on nothing but a seed and a name."""
    digest = hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
