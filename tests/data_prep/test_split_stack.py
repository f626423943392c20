"""One stack in blocks along z: no two roles closer than the gap, every block tested once, and leaks told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import real

from data_prep.__main__ import main
from data_prep.split.blocks import BlockRequest, least_distance_nm, make_blocks, make_folds, nearest_pairs
from data_prep.split.sections import split_stack
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, OutputRefusal

FLY = real("em/em") / "em" / "flyem_medulla"


def request(**more: object) -> BlockRequest:
    return BlockRequest(**{"gap_nm": 480.0, "number_nm": 10.0, **more})  # type: ignore[arg-type]


def independent(folder: Path, count: int = 12, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(first, first + count):
        tifffile.imwrite(folder / f"z{number}.tif", rng.integers(0, 255, (16, 20)).astype(np.uint8))
    return folder


def test_the_fly_is_divided_as_its_published_folds_are() -> None:
    roles = json.loads((FLY.parent / "splits.json").read_text())
    numbers = sorted(int(path.stem[1:]) for path in FLY.iterdir())
    blocks = make_blocks(numbers, request())
    assert {f"B{index}": list(block) for index, block in enumerate(blocks, 1)} == roles["blocks"]
    for fold, named in zip(make_folds(blocks), roles["folds"], strict=True):
        for role, block in named.items():
            assert list(getattr(fold, role)) == roles["blocks"][block]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 9), min_size=11, max_size=60),
    count=st.integers(3, 6),
    gap=st.floats(1, 120),
)
def test_no_two_roles_come_closer_than_the_gap(steps: list[int], count: int, gap: float) -> None:
    numbers = [0, *np.cumsum(steps).tolist()]
    asked = request(blocks=count, gap_nm=gap)
    try:
        blocks = make_blocks(numbers, asked)
    except DatalistRefusal:
        assert numbers[-1] * 10 < 10 * 9 * count + gap * count
        return
    folds = make_folds(blocks)
    assert len({len(block) for block in blocks}) == 1
    assert min(least_distance_nm(fold, 10) for fold in folds) >= gap * (1 - 1e-6)
    assert sorted(number for fold in folds for number in fold.test) == sorted(sum(blocks, ()))
    for fold in folds:
        assert fold.clean
        assert fold.noisy
        assert bool(fold.validation) == (count > 3)
        every = [*fold.test, *fold.clean, *fold.noisy, *fold.validation]
        assert sorted(every) == sorted(sum(blocks, ())), "each section has one role"


def test_the_largest_blocks_that_fit() -> None:
    blocks = make_blocks(range(15), request(blocks=3, gap_nm=20, number_nm=10))
    assert blocks == (tuple(range(4)), tuple(range(5, 9)), tuple(range(10, 14)))
    assert nearest_pairs(blocks) == [(3, 5), (8, 10)]


def test_permuted_sections_have_neighbours_everywhere() -> None:
    blocks = make_blocks(range(16), request(protocol="permuted", seed=3))
    assert [len(block) for block in blocks] == [4] * 4
    assert sorted(sum(blocks, ())) == list(range(16))
    assert blocks != make_blocks(range(16), request(protocol="permuted", seed=4))
    assert blocks == make_blocks(range(16), request(protocol="permuted", seed=3))
    assert least_distance_nm(make_folds(blocks)[0], 10) == 10


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"blocks": 2}, "3 or more"),
        ({"protocol": "random"}, "allowed: blocks, permuted"),
        ({"gap_nm": 0.0}, "gap 0 nm"),
        ({"number_nm": float("nan")}, "number-nm nan"),
    ],
)
def test_refused_requests(more: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigRefusal, match=words):
        request(**more)


@pytest.mark.parametrize("protocol", ["blocks", "permuted"])
def test_too_few_sections(protocol: str) -> None:
    with pytest.raises(DatalistRefusal, match=r"3 sections.*fewer blocks"):
        make_blocks(range(3), request(protocol=protocol))


def test_a_datalist_per_fold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, noisy = independent(tmp_path / "clean"), independent(tmp_path / "noisy")
    words = ["split-stack", str(clean), str(noisy), str(tmp_path / "data"), "--gap-nm", "20", "--number-nm", "10"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "block 1: 2 sections, 0 to 1" in shown.err
    assert "LEAK" not in shown.err
    folds = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert folds == ["fold1", "fold2", "fold3", "fold4", "folds.json"]
    content = json.loads((tmp_path / "data" / "fold2" / "datalist.json").read_text())
    pair = {"noisy": "../../noisy", "clean": "../../clean", "patient": "clean"}
    assert content["test"] == [{**pair, "sections": [3, 4]}]
    assert content["validation"] == [{**pair, "sections": [0, 1]}]
    assert content["clean"] == [{"image": "../../clean", "patient": "clean", "sections": [6, 7]}]
    (entry,) = content["noisy"]
    assert entry == {"image": "../../noisy", "patient": "clean", "sections": [9, 10], "reference": "../../clean"}
    assert (tmp_path / "data" / "fold2" / entry["image"]).resolve() == noisy
    assert (content["number_nm"], content["least_gap_nm"]) == (10, 20)
    with pytest.raises(OutputRefusal, match="exists"):
        split_stack(clean, noisy, tmp_path / "data", gap_nm=20, number_nm=10)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    clean, noisy = independent(tmp_path / "clean"), independent(tmp_path / "noisy")
    for name in ("one", "two"):
        split_stack(clean, noisy, tmp_path / name, gap_nm=20, number_nm=10, protocol="permuted", seed=5)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in sorted((tmp_path / name).rglob("*.json"))}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 5


def test_a_leak_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the authors' permuted sections always; of blocks when both sides of a gap are alike."""
    clean, noisy = independent(tmp_path / "clean"), independent(tmp_path / "noisy")
    words = ["split-stack", str(clean), str(noisy)]
    more = ["--gap-nm", "20", "--number-nm", "10"]
    assert main([*words, str(tmp_path / "permuted"), *more, "--protocol", "permuted"]) == 0
    assert "WARNING: LEAK: permuted sections" in capsys.readouterr().err
    assert "LEAK" in json.loads((tmp_path / "permuted" / "fold1" / "datalist.json").read_text())["description"]
    assert "LEAK" in json.loads((tmp_path / "permuted" / "folds.json").read_text())["leak"]
    for path in clean.iterdir():  # every section the same
        path.write_bytes((clean / "z0.tif").read_bytes())
    assert main([*words, str(tmp_path / "alike"), *more]) == 0
    assert "WARNING: LEAK: sections on both sides of a gap are alike (correlation 1.00" in capsys.readouterr().err


def test_how_alike_the_flys_sections_are(tmp_path: Path) -> None:
    """0.07 at 480 nm: an honest gap; 0.57 at 80 nm: none."""
    wide = split_stack(FLY, FLY, tmp_path / "wide", gap_nm=480, number_nm=10)
    assert wide.distance_nm == 480
    assert wide.correlation < 0.15
    assert not wide.leak
    narrow = split_stack(FLY, FLY, tmp_path / "narrow", gap_nm=80, number_nm=10)
    assert narrow.correlation > 0.4
    assert narrow.leak


def test_stacks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    clean, noisy = independent(tmp_path / "clean"), independent(tmp_path / "noisy", first=1)
    with pytest.raises(DatalistRefusal, match=r"numbers 12 from 1 to 12, of .*12 from 0 to 11"):
        split_stack(clean, noisy, tmp_path / "data", gap_nm=20, number_nm=10)
    with pytest.raises(ConfigRefusal, match="--number-nm"):
        split_stack(clean, clean, tmp_path / "data", gap_nm=20)


def test_a_stack_that_says_its_spacing_needs_no_number_nm(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (12, 16, 20)).astype(np.uint8)
    metadata = {"unit": "nm", "spacing": 25.0, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(0.1, 0.1), metadata=metadata)
    split = split_stack(tmp_path / "a.tif", tmp_path / "a.tif", tmp_path / "data", gap_nm=50, specimen="s1")
    assert split.distance_nm == 50
    content = json.loads((tmp_path / "data" / "fold1" / "datalist.json").read_text())
    assert content["clean"][0]["patient"] == "s1"
