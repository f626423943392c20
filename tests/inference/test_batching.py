"""Slices of several series through one model: the same answers as one by one, and less at once when memory is short."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from inference.tiny import tiny_network

from iscl_monai.errors import ConfigRefusal, ImageRefusal, MemoryRefusal
from iscl_monai.inference import precision
from iscl_monai.inference.batching import Batcher, SharedDenoiser, batched
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.precision import LARGEST_DIFFERENCE_HU
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
    usual, begin = denoiser.change_batch_hu, denoiser.begin_batch_hu

    def small(batch: np.ndarray) -> Callable[[], np.ndarray]:
        if len(batch) > 2:
            raise MemoryRefusal("8 slices", allowed="fewer", cure="fewer")
        return begin(batch)

    monkeypatch.setattr(denoiser, "begin_batch_hu", small)
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

    monkeypatch.setattr(denoiser, "begin_batch_hu", never)
    batcher = Batcher(denoiser, size=2, report=lambda _: None)
    with pytest.raises(MemoryRefusal):
        batcher.change_hu(slices(1)[0])
    with pytest.raises(ImageRefusal):
        batcher.change_hu(np.full((32, 32), np.nan, np.float32))
    batcher.close()


def test_a_gpu_without_memory_gets_smaller_batches(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises for a GPU, at any operation."""
    sentences: list[str] = []
    compute = denoiser._compute

    def small(image: torch.Tensor) -> torch.Tensor:
        if len(image) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return compute(image)

    monkeypatch.setattr(denoiser, "_compute", small)
    shared = batched(denoiser, size=8, report=sentences.append)
    asked = slices(11)
    with ThreadPoolExecutor(11) as pool:
        answers = list(pool.map(shared.change_hu, asked))
    shared.batcher.close()
    assert sentences == [
        "too little memory for 8 slices at once, 4 from now on",
        "too little memory for 4 slices at once, 2 from now on",
    ]
    for slice_hu, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, denoiser.change_hu(slice_hu), atol=2e-3)


def test_another_fault_of_the_gpu_is_no_lack_of_memory(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(denoiser, "_compute", broken)
    shared = batched(denoiser, size=2, report=lambda _: None)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        shared.change_hu(slices(1)[0])
    shared.batcher.close()


def test_the_next_batch_is_begun_before_one_is_waited_for(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    begin, asked = denoiser.begin_batch_hu, slices(4)
    gathered = threading.Event()

    def noted(batch: np.ndarray) -> Callable[[], np.ndarray]:
        gathered.wait()
        order.append("begun")
        answer = begin(batch)

        def wait() -> np.ndarray:
            order.append("waited for")
            return answer()

        return wait

    monkeypatch.setattr(denoiser, "begin_batch_hu", noted)
    shared = batched(denoiser, size=1, report=lambda _: None)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(shared.change_hu, one) for one in asked]
        while shared.batcher._waiting.qsize() < 3:  # the fourth is with the batcher
            threading.Event().wait(0.001)
        gathered.set()
        assert all(np.abs(future.result()).max() > 1 for future in futures)
    shared.batcher.close()
    assert order == ["begun", "begun", *["waited for", "begun"] * 2, *["waited for"] * 2]


def test_bfloat16_is_another_object_and_nearly_the_same_image(denoiser: Denoiser) -> None:
    lean = Denoiser(tiny_network(), identity=IDENTITY, device="cpu", precision="bfloat16")
    assert lean.parameters == denoiser.parameters | {"precision": "bfloat16"}
    (slice_hu,) = slices(1)
    difference_hu = np.abs(lean.change_hu(slice_hu) - denoiser.change_hu(slice_hu)).max()
    assert 0 < difference_hu < LARGEST_DIFFERENCE_HU


def test_weights_that_bfloat16_changes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LARGEST_DIFFERENCE_HU", 1e-6)
    with pytest.raises(ConfigRefusal, match="differs from float32 by"):
        Denoiser(tiny_network(), identity=IDENTITY, device="cpu", precision="bfloat16")


@pytest.mark.parametrize("options", [{"precision": "int4"}, {"precision": "bfloat16", "runtime": "openvino"}])
def test_a_precision_that_is_not_there_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigRefusal):
        Denoiser(tiny_network(), identity=IDENTITY, device="cpu", **options)
