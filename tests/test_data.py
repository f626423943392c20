"""The datalist and its refusals, and the row of patches that depends on seed and number alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
import torch
from dicom.synthetic import Series, setting
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader, MetaTensor

from iscl_monai.data import (
    MINIMUM_GAP_MM,
    Datalist,
    PairedPatches,
    PoolScan,
    RunSampler,
    ScanPair,
    SliceDataset,
    UnpairedPatches,
    cached,
    check_leaks,
    check_memory,
    pairs_of,
    references,
)
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal, MemoryRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.transforms import HUWindowd, augmentation, loading

WINDOW = HUWindow(-1000, 1000)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def write_scan(path: Path, *, seed: int = 0, slices: int = 3, side: int = 40) -> Path:
    """A NIfTI of a warm square in air with noise; every slice differs."""
    rng = np.random.default_rng(seed)
    hu = np.full((side, side, slices), -1000)
    hu[5:-5, 5:-5] = rng.integers(-200, 300, (side - 10, side - 10, slices))
    nibabel.Nifti1Image(hu.astype(np.int16), AFFINE).to_filename(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scans ``n0 n1 c0 c1 v_noisy v_clean t_noisy t_clean`` .nii, not yet a datalist."""
    for seed, name in enumerate(("n0", "n1", "c0", "c1", "v_noisy", "v_clean", "t_noisy", "t_clean")):
        write_scan(tmp_path / f"{name}.nii", seed=seed, slices=2 + seed % 2 if seed < 4 else 3)
    return tmp_path


def good() -> dict[str, Any]:
    return {
        "description": "made up",
        "noisy": [
            {"image": "n0.nii", "patient": "A", "dose": 0.25, "kernel": "soft", "reference": "c0.nii"},
            {"image": "n1.nii", "patient": "B", "reference": "c1.nii"},
        ],
        "clean": [
            {"image": "c0.nii", "patient": "C", "z_range_mm": [0, 4]},
            {"image": "c1.nii", "patient": "D"},
        ],
        "validation": [{"noisy": "v_noisy.nii", "clean": "v_clean.nii", "patient": "E"}],
        "test": [{"noisy": "t_noisy.nii", "clean": "t_clean.nii", "patient": "F"}],
    }


def load(folder: Path, content: Any) -> Datalist:
    (folder / "datalist.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return Datalist.load(folder)


# --- the schema --------------------------------------------------------------------------------------


def test_a_good_datalist_loads(folder: Path) -> None:
    made = load(folder, good())
    assert made == Datalist.load(folder / "datalist.json")
    assert [scan.patient for scan in made.noisy] == ["A", "B"]
    assert made.noisy[0] == PoolScan(
        image=folder / "n0.nii", patient="A", dose=0.25, kernel="soft", reference=folder / "c0.nii"
    )
    assert made.clean[0].z_range_mm == (0.0, 4.0)
    assert made.test == (ScanPair(noisy=folder / "t_noisy.nii", clean=folder / "t_clean.nii", patient="F"),)


@pytest.mark.parametrize("z_range_mm", [[4, 4], [-3.5, -3.5], [-4, 0]])
def test_a_z_range_may_be_a_single_plane(folder: Path, z_range_mm: list[float]) -> None:
    made = load(folder, changed(lambda content: content["clean"][0].update(z_range_mm=z_range_mm)))
    assert made.clean[0].z_range_mm == tuple(z_range_mm)
    assert made.clean[0].item()["z_range_mm"] == tuple(z_range_mm)


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = good()
    change(content)
    return content


REFUSED: dict[str, tuple[Any, list[str]]] = {
    "unknown section": (changed(lambda c: c.update(nosy=[])), ["section 'nosy'", "did you mean 'noisy'?"]),
    "unknown key": (
        changed(lambda c: c["noisy"][1].update(patiend="x")),
        ["noisy[1] has 'patiend'", "did you mean 'patient'?"],
    ),
    "a pair's key in a pool": (
        changed(lambda c: c["clean"][0].update(noisy="n0.nii")),
        ["clean[0] has 'noisy'"],
    ),
    "no patient": (
        changed(lambda c: c["test"][0].pop("patient")),
        ["test[0] has patient=None", "give its patient"],
    ),
    "patient is a number": (changed(lambda c: c["noisy"][0].update(patient=7)), ["noisy[0] has patient=7"]),
    "missing file": (
        changed(lambda c: c["clean"][1].update(image="lost.nii")),
        ["clean[1] image='lost.nii' does not exist", "look for it at"],
    ),
    "reversed z_range": (
        changed(lambda c: c["clean"][0].update(z_range_mm=[4, 0])),
        ["clean[0] z_range_mm=[4, 0]", "[lowest, highest] in mm"],
    ),
    "z_range of one number": (changed(lambda c: c["noisy"][0].update(z_range_mm=[1])), ["z_range_mm=[1]"]),
    "z_range of words": (
        changed(lambda c: c["noisy"][0].update(z_range_mm=["a", "b"])),
        ["z_range_mm=['a', 'b']"],
    ),
    "z_range not a number": (
        '{"noisy": [{"image": "n0.nii", "patient": "A", "z_range_mm": [NaN, 1]}]}',
        ["nan"],
    ),
    "empty pool": (changed(lambda c: c.update(clean=[])), ["no scan in 'clean'", "at least one scan"]),
    "absent pool": (changed(lambda c: c.pop("noisy")), ["no scan in 'noisy'"]),
    "section is no list": (changed(lambda c: c.update(noisy={"image": "n0.nii"})), ["a list of scans"]),
    "entry is no object": (changed(lambda c: c["noisy"].append("n0.nii")), ["noisy[2] has image=None"]),
    "no JSON": ('{"noisy": [}', ["line 1 column 12", "JSON"]),
    "not an object": ("[]", ["holds a list", "an object"]),
}


def test_a_z_range_may_be_one_slice(folder: Path) -> None:
    made = load(folder, changed(lambda c: c["clean"][0].update(z_range_mm=[4, 4])))
    assert made.clean[0].z_range_mm == (4.0, 4.0)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, folder: Path) -> None:
    content, expected = REFUSED[name]
    with pytest.raises(DatalistRefusal) as caught:
        load(folder, content)
    assert str(folder / "datalist.json") in str(caught.value)
    for words in expected:
        assert words in str(caught.value)


def test_an_absent_datalist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatalistRefusal, match=r"datalist\.json does not exist"):
        Datalist.load(tmp_path)


# --- leaks -------------------------------------------------------------------------------------------

Range = tuple[float, float] | None


def scan(patient: str, z_range_mm: Range = None) -> PoolScan:
    return PoolScan(image=Path("x.nii"), patient=patient, z_range_mm=z_range_mm)


def pair(patient: str, z_range_mm: Range = None) -> ScanPair:
    return ScanPair(noisy=Path("x.nii"), clean=Path("y.nii"), patient=patient, z_range_mm=z_range_mm)


def lists(one: str, other: str, a: Range, b: Range) -> Datalist:
    """One patient in two sections, strangers in the others."""
    sections: dict[str, Any] = {"noisy": [scan("N")], "clean": [scan("C")]}
    for name, z_range_mm in ((one, a), (other, b)):
        make = scan if name in ("noisy", "clean") else pair
        sections[name] = [*sections.get(name, ()), make("same", z_range_mm)]
    return Datalist(**{name: tuple(rows) for name, rows in sections.items()})


SIDES = [("noisy", "clean"), ("noisy", "validation"), ("clean", "validation")]


@pytest.mark.parametrize("sides", SIDES, ids="-".join)
@pytest.mark.parametrize(
    ("a", "b"),
    [(None, None), ((0, 10), None), ((0, 10), (5, 20)), ((0, 10), (24.9, 40)), ((24.9, 40), (0, 10))],
)
def test_a_patient_on_two_sides_is_refused(sides: tuple[str, str], a: Range, b: Range) -> None:
    with pytest.raises(LeakRefusal, match="'same'") as caught:
        check_leaks(lists(*sides, a, b))
    assert all(repr(side) in str(caught.value) for side in sides)


@pytest.mark.parametrize("sides", SIDES, ids="-".join)
def test_ranges_far_apart_are_fine(sides: tuple[str, str]) -> None:
    check_leaks(lists(*sides, (0, 10), (25, 40)))
    check_leaks(lists(*sides, (25, 40), (0, 10)))


@pytest.mark.parametrize("other", ["noisy", "clean", "validation"])
def test_a_test_patient_is_in_nothing_else_however_far_apart(other: str) -> None:
    with pytest.raises(LeakRefusal, match=f"test patient 'same' is also in '{other}'"):
        check_leaks(lists(other, "test", (0, 10), (500, 600)))


def test_a_patient_twice_on_one_side_is_fine() -> None:
    check_leaks(lists("noisy", "noisy", (0, 10), (0, 10)))


def test_loading_looks_for_leaks(folder: Path) -> None:
    with pytest.raises(LeakRefusal):
        load(folder, changed(lambda c: c["test"][0].update(patient="A")))


heights = st.floats(-500, 500).map(lambda value: round(value, 1))
ranges = st.tuples(heights, heights).map(sorted).map(tuple)


@given(ranges, ranges)
def test_leaks_are_what_their_points_say(a: tuple[float, float], b: tuple[float, float]) -> None:
    """Fine exactly when no point of one range is closer than 15 mm to one of the other."""
    nearest = min(abs(p - q) for p, q in ((a[0], b[1]), (b[0], a[1])))
    overlap = a[0] <= b[1] and b[0] <= a[1]
    closest = 0.0 if overlap else nearest
    try:
        check_leaks(lists("noisy", "clean", a, b))
        refused = False
    except LeakRefusal:
        refused = True
    assert refused == (closest < MINIMUM_GAP_MM)


# --- the row of patches ------------------------------------------------------------------------------


def pools(folder: Path) -> tuple[Any, Any]:
    datalist = load(folder, good())
    chain = loading("image")
    return tuple(
        cached(scans, loading=chain, num_workers=0, progress=False) for scans in (datalist.noisy, datalist.clean)
    )


def row(folder: Path, *, seed: int = 0, side: int = 16) -> UnpairedPatches:
    noisy, clean = pools(folder)
    return UnpairedPatches(
        noisy,
        clean,
        augmentation=augmentation("image", patch_size=side),
        windowing=HUWindowd("image", WINDOW),
        seed=seed,
    )


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in ("noisy", "clean"))


def test_a_pair_is_two_patches_of_the_network_range(folder: Path) -> None:
    made = row(folder)[3]
    assert made.keys() == {"noisy", "clean"}
    for patch in made.values():
        assert patch.shape == (1, 16, 16)
        assert patch.dtype == torch.float32
        assert patch.abs().max() <= 1
        assert type(patch) is torch.Tensor, "MONAI's MetaTensor slows every operation down"


def test_the_nth_pair_depends_on_seed_and_n_alone(folder: Path) -> None:
    patches = row(folder)
    forward = [patches[n] for n in range(12)]
    np.random.seed(99)
    torch.manual_seed(99)
    again = row(folder)
    backward = [again[n] for n in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not any(same(forward[0], other) for other in forward[1:])
    other_seed = row(folder, seed=1)
    assert not any(same(forward[n], other_seed[n]) for n in range(12))


def test_noisy_and_clean_are_drawn_independently(folder: Path) -> None:
    """Both pools the same scans: a common draw would give pairs of one place."""
    noisy, _ = pools(folder)
    chain = {"augmentation": augmentation("image", patch_size=16), "windowing": HUWindowd("image", WINDOW)}
    patches = UnpairedPatches(noisy, noisy, **chain)
    alike = sum(torch.equal(pair["noisy"], pair["clean"]) for pair in map(patches.__getitem__, range(20)))
    assert alike == 0
    other_clean = UnpairedPatches(noisy, list(noisy)[:1], **chain)
    assert all(torch.equal(patches[n]["noisy"], other_clean[n]["noisy"]) for n in range(5))


def test_every_scan_is_drawn_as_often_as_it_has_voxels(folder: Path) -> None:
    patches = row(folder)
    assert patches.chances["noisy"].tolist() == pytest.approx([2 / 5, 3 / 5])


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers_gives_the_same_row(folder: Path, workers: int) -> None:
    patches = row(folder)
    sampler = RunSampler(8)
    fork = {"multiprocessing_context": "fork"} if workers else {}
    loaded = list(DataLoader(patches, batch_size=2, sampler=sampler, num_workers=workers, **fork))
    assert torch.equal(torch.cat([b["noisy"] for b in loaded]), torch.stack([patches[n]["noisy"] for n in range(8)]))
    assert torch.equal(torch.cat([b["clean"] for b in loaded]), torch.stack([patches[n]["clean"] for n in range(8)]))


def test_a_resumed_sampler_continues_where_the_run_stopped(folder: Path) -> None:
    patches = row(folder)
    whole = list(DataLoader(patches, batch_size=2, sampler=RunSampler(8)))
    resumed = RunSampler(8)
    resumed.done = 4
    assert len(resumed) == 4
    rest = list(DataLoader(patches, batch_size=2, sampler=resumed))
    assert len(rest) == 2
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


@given(samples=st.integers(1, 20), done=st.integers(0, 20), ranks=st.integers(1, 4))
def test_ranks_share_the_row_without_overlap(samples: int, done: int, ranks: int) -> None:
    done = min(done, samples)
    drawn: list[list[int]] = []
    for rank in range(ranks):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "is_initialized", lambda: True)
            patch.setattr(torch.distributed, "get_world_size", lambda: ranks)
            patch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            drawn.append(list(RunSampler(samples, done=done)))
            assert len(drawn[-1]) == len(RunSampler(samples, done=done))
    assert sorted(index for part in drawn for index in part) == list(range(done * ranks, samples * ranks))


# --- pairs for the twin ------------------------------------------------------------------------------


def test_paired_patches_show_one_place(folder: Path) -> None:
    """The reference is the noisy scan 100 HU higher, so every pair differs by just that."""
    noisy, _ = pools(folder)
    higher = [{**item, "image": item["image"] + 100} for item in noisy]
    patches = PairedPatches(
        noisy,
        higher,
        augmentation=augmentation("image", patch_size=16),
        windowing=HUWindowd("image", HUWindow(-3000, 3000)),
    )
    for n in range(6):
        made = patches[n]
        assert made["noisy"].shape == made["clean"].shape == (1, 16, 16)
        torch.testing.assert_close(made["clean"] - made["noisy"], torch.full((1, 16, 16), 100 / 3000))


def test_references_stand_in_for_their_scans(folder: Path) -> None:
    noisy = load(folder, good()).noisy
    stood_in = references(noisy)
    assert [scan.image.name for scan in stood_in] == ["c0.nii", "c1.nii"]
    assert [scan.patient for scan in stood_in] == ["A", "B"]
    with pytest.raises(ConfigRefusal, match=r"n1\.nii has no reference"):
        references([noisy[0], replace(noisy[1], reference=None)])


# --- memory ------------------------------------------------------------------------------------------


def with_free_memory(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free)))


def test_memory_is_said_and_refused_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [scan.item() for scan in load(folder, good()).noisy]
    needed = 40 * 40 * 5 * 2.1
    with_free_memory(monkeypatch, needed / 0.8 + 10)
    check_memory(items)
    assert "caching 2 scans, 5 slices" in capsys.readouterr().out
    with_free_memory(monkeypatch, needed / 0.8 - 10)
    with pytest.raises(MemoryRefusal, match="80%"):
        check_memory(items)
    assert "caching 2 scans" in capsys.readouterr().out

    def reading(data: Any) -> Any:
        raise AssertionError("read before the memory was checked")

    with pytest.raises(MemoryRefusal):
        cached(load(folder, good()).noisy, loading=reading, num_workers=0, progress=False)  # type: ignore[arg-type]


def test_memory_counts_only_the_slices_in_range(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_memory([{"image": str(folder / "v_noisy.nii"), "z_range_mm": (0.0, 2.0)}])
    assert "1 scans, 2 slices" in capsys.readouterr().out


# --- slices to validate on ---------------------------------------------------------------------------


@pytest.mark.parametrize("known", [("truth", "dose"), ("dose", "dose"), ("truth", "")])
def test_truth_and_dose_come_along_if_one_is_known_of_every_pair(folder: Path, known: tuple[str, str]) -> None:
    datalist = load(folder, good())
    (pair,) = datalist.validation
    knowledge = {"truth": {"truth": pair.clean, "truth_protocol": "truth-real-anatomy"}, "dose": {"dose": 0.25}, "": {}}
    pairs = [replace(pair, **knowledge[one]) for one in known]
    slices = SliceDataset(pairs, noisy=datalist.noisy, hu_window=WINDOW, slices_per_scan=1)
    added = [item.keys() - {"noisy", "noisy_hu", "clean", "clean_hu", "body"} for item in slices.slices]
    assert added == [set()] * 2 if "" in known else added == [{f"{one}_hu" if one == "truth" else one} for one in known]
    if added[0] == {"truth_hu"}:
        assert torch.equal(slices[0]["truth_hu"], slices[0]["clean_hu"])


@pytest.mark.parametrize("told", [True, False])
def test_a_dose_that_the_header_of_the_noisy_scan_tells_counts(tmp_path: Path, told: bool) -> None:
    derivation = "Noise inserted as for 0.25 of the dose of a scan with 12.0 HU" if told else "Averaged"
    size = {"rows": 40, "columns": 40, "slots": (0, 1)}
    Series(**size, change=setting(DerivationDescription=derivation)).write(tmp_path / "low")
    Series(**size).write(tmp_path / "full")
    pair = ScanPair(noisy=tmp_path / "low", clean=tmp_path / "full", patient="A")
    slices = SliceDataset([pair], noisy=(), hu_window=WINDOW)
    assert [item.get("dose") for item in slices.slices] == [0.25 if told else None] * 2


def test_slices_of_pairs(folder: Path) -> None:
    datalist = load(folder, good())
    slices = SliceDataset(datalist.validation, noisy=datalist.noisy, hu_window=WINDOW, slices_per_scan=2)
    assert len(slices) == 2
    volume = nibabel.load(folder / "v_clean.nii").get_fdata()
    for place, index in ((0, 0), (1, 2)):  # evenly spaced: the first and the last third of three
        item = slices[place]
        assert item.keys() == {"noisy", "noisy_hu", "clean", "clean_hu", "body"}
        assert all(value.shape == (1, 40, 40) for value in item.values())
        assert np.array_equal(item["clean_hu"][0], volume[..., index])
        torch.testing.assert_close(item["clean"], WINDOW.to_network(item["clean_hu"]))
        assert item["body"].dtype == torch.bool
        assert item["body"][0, 20, 20]
        assert not item["body"][0, 0, 0]
        assert not any(isinstance(value, MetaTensor) for value in item.values())


def test_slices_without_pairs_come_from_the_noisy_pool(folder: Path) -> None:
    datalist = load(folder, good())
    slices = SliceDataset((), noisy=datalist.noisy, hu_window=WINDOW, slices_per_scan=9)
    assert len(slices) == 5  # no slice twice
    assert all(slices[n].keys() == {"noisy", "noisy_hu", "body"} for n in range(5))
    first = nibabel.load(folder / "n0.nii").get_fdata()
    assert np.array_equal(slices[0]["noisy_hu"][0], first[..., 0])


def test_a_pair_of_two_shapes_is_refused(folder: Path) -> None:
    write_scan(folder / "v_clean.nii", slices=2)
    with pytest.raises(DatalistRefusal, match=r"v_noisy\.nii is \(40, 40, 3\).*v_clean\.nii is \(40, 40, 2\)"):
        SliceDataset(load(folder, good()).validation, noisy=(), hu_window=WINDOW)


def test_pairs_of_a_section(folder: Path) -> None:
    datalist = load(folder, good())
    [item] = pairs_of(datalist, "test")
    assert item == {
        "noisy": str(folder / "t_noisy.nii"),
        "clean": str(folder / "t_clean.nii"),
        "patient": "F",
    }
    with pytest.raises(ConfigRefusal, match="--section tset"):
        pairs_of(datalist, "tset")
    with pytest.raises(ConfigRefusal, match=r"no 'validation' pairs.*or take the 1 of --section test"):
        pairs_of(replace(datalist, validation=()), "validation")
    with pytest.raises(ConfigRefusal, match=r"no 'test' pairs.*simulated dose\)$"):
        pairs_of(replace(datalist, validation=(), test=()), "test")
