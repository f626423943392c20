"""Derived series of real scanners, made once for all tests that look at them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dicom.scanners import Pair, make_pair
from inference.tiny import make_bundle

from iscl_monai.inference.denoiser import Denoiser


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Source and derived slices of a scanner; made when first asked for. Nobody changes them."""
    made: dict[str, Pair] = {}

    def pair(scanner: str) -> Pair:
        if scanner not in made:
            folder = tmp_path_factory.mktemp("scanner")
            denoiser = Denoiser.from_bundle(make_bundle(folder / "bundle"), device="cpu")
            made[scanner] = make_pair(scanner, folder / "pair", denoiser)
        return made[scanner]

    return pair
