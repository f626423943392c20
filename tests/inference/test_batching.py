"""Slices of several series through one model: the same answers as one by one, and less at once when memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from inference.tiny import tiny_network

from iscl_monai.errors import ConfigRefusal, ImageRefusal, MemoryRefusal
from iscl_monai.inference.batching import Batcher, SharedDenoiser
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.slice_denoiser import ModelIdentity

IDENTITY = ModelIdentity("ISCL", "1", "0" * 64)


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser(tiny_network(), identity=IDENTITY, device="cpu")


@pytest.fixture
def batcher(denoiser: Denoiser) -> Iterator[Batcher]:
    made = Batcher(denoiser, size=4, report=lambda _: None)
    yield made
    made.close()


def slices(count: int, side: int = 32) -> list[np.ndarray]:
    chance = np.random.default_rng(side)
    return [chance.normal(40, 60, (side, side)).astype(np.float32) for _ in range(count)]


def test_each_asker_gets_its_own_slice_back(denoiser: Denoiser, batcher: Batcher) -> None:
    asked = [*slices(9), *slices(5, side=24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(batcher.change_hu, asked))
    for slice_hu, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, denoiser.change_hu(slice_hu), atol=2e-3)
        assert np.abs(answer).max() > 1


def test_the_company_of_a_slice_does_not_change_its_answer(batcher: Batcher) -> None:
    wanted, *others = slices(9)
    alone = batcher.change_hu(wanted)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            answers = list(pool.map(batcher.change_hu, [*others, wanted]))
            np.testing.assert_array_equal(answers[-1], alone)


def test_strengths_share_one_model(denoiser: Denoiser, batcher: Batcher) -> None:
    (slice_hu,) = slices(1)
    full, half, none = (SharedDenoiser(batcher, strength) for strength in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(half.change_hu(slice_hu), np.float32(0.5) * full.change_hu(slice_hu))
    assert not none.change_hu(slice_hu).any()
    assert half.parameters == denoiser.at_strength(0.5).parameters
    assert half.identity == IDENTITY
    assert half.device == torch.device("cpu")
    with pytest.raises(ConfigRefusal):
        denoiser.at_strength(1.5)


def test_too_little_memory_halves_the_batch_and_says_so(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences: list[str] = []
    usual = denoiser.change_batch_hu

    def small(batch: np.ndarray) -> np.ndarray:
        if len(batch) > 2:
            raise MemoryRefusal("8 slices", allowed="fewer", cure="fewer")
        return usual(batch)

    monkeypatch.setattr(denoiser, "change_batch_hu", small)
    batcher = Batcher(denoiser, size=8, report=sentences.append)
    asked = slices(7)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(batcher.change_hu, asked))
    batcher.close()
    assert batcher.size == 2
    assert sentences == [
        "too little memory for 8 slices at once, 4 from now on",
        "too little memory for 4 slices at once, 2 from now on",
    ]
    for slice_hu, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, usual(slice_hu[None])[0], atol=2e-3)


def test_a_slice_too_large_for_the_memory_is_told_to_its_asker(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(batch: np.ndarray) -> np.ndarray:
        raise MemoryRefusal("1 slice", allowed="less", cure="the CPU")

    monkeypatch.setattr(denoiser, "change_batch_hu", never)
    batcher = Batcher(denoiser, size=2, report=lambda _: None)
    with pytest.raises(MemoryRefusal):
        batcher.change_hu(slices(1)[0])
    with pytest.raises(ImageRefusal):
        batcher.change_hu(np.full((32, 32), np.nan, np.float32))
    batcher.close()
