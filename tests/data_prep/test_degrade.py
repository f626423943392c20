"""Film, charge and Rician noise: as strong as they are said to be, the same for the same seed, and recorded."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from real_data import real

from data_prep.__main__ import main
from data_prep.degrade.charge import Charge, add_charge, tail
from data_prep.degrade.film import Film, add_film
from data_prep.degrade.micrographs import degrade_micrographs
from data_prep.degrade.record import write_record
from data_prep.degrade.rician import add_rician
from data_prep.degrade.stream import generator
from data_prep.degrade.volume import degrade_volume
from iscl_monai.errors import ConfigRefusal, ImageRefusal, OutputRefusal
from iscl_monai.magnitude import read_magnitude
from iscl_monai.micrograph import read_micrographs

GREY = 0.5 * np.ones((96, 128))


def small_stack(folder: Path, numbers: range = range(3)) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in numbers:
        tifffile.imwrite(folder / f"z{number}.tif", rng.integers(60, 200, (64, 80)).astype(np.uint8))
    return folder


def digest(place: Path) -> dict[str, str]:
    files = [place] if place.is_file() else sorted(place.iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- the formulas --------------------------------------------------------------------------------------


def test_film_multiplies_and_keeps_the_mean_transmission() -> None:
    film = add_film(GREY, Film(), generator(0))
    again = add_film(GREY / 2, Film(), generator(0))
    np.testing.assert_allclose(film, 2 * again)
    assert film.mean() == pytest.approx(0.5)
    log = np.log(add_film(GREY, Film(spots=0, mottle=0), generator(1)))
    assert log.std() == pytest.approx(0.10, rel=1e-6)
    log = np.log(add_film(GREY, Film(spots=0, clouds=0), generator(1)))
    assert log.std() == pytest.approx(0.06, rel=1e-6)


def test_spots_are_as_many_as_the_area_says() -> None:
    only_spots = Film(clouds=0, mottle=0, spots=48, spots_px=(2, 2), spots_depth=(-0.5, -0.5))
    lows = [np.log(add_film(np.ones((128, 128)), only_spots, generator(seed))) for seed in range(60)]
    masses = [(image.max() - image).sum() / (0.5 * 2 * np.pi * 2**2) for image in lows]
    assert np.mean(masses) == pytest.approx(3, abs=3 * np.sqrt(3 / 60) + 0.2)  # a sixteenth of 512 x 512; some cut off


def test_charge_adds_whatever_is_below() -> None:
    one, other = (add_charge(GREY * factor, Charge(), generator(0)) - GREY * factor for factor in (1, 2))
    np.testing.assert_allclose(one, other)


def test_the_tail_is_fermi_and_diracs() -> None:
    distance = np.array([0.0, 98.0, 1e6])
    np.testing.assert_allclose(tail(distance, 98, 37), [1, (1 + np.exp(-98 / 37)) / 2, 0], atol=1e-12)


def single_body(**more: Any) -> npt.NDArray[np.float64]:
    quiet = {"drift": 0.0, "grain": 0.0, "blur_px": (0.0, 0.0), "row_jitter": (1.0, 1.0), "bodies": (1, 1)}
    charge = Charge(**{**quiet, "patch_px": 256, "axes_px": (40, 40), "peak": (0.3, 0.3), **more})
    for seed in range(50):  # one that lies well within
        added = add_charge(np.zeros((256, 256)), charge, generator(seed))
        rows, columns = np.nonzero(np.abs(added) > 0.9 * np.abs(added).max())
        if 60 < rows.mean() < 190 and columns.min() > 60 and columns.max() < 150:
            return added
    raise AssertionError("no seed gives one")


def test_a_body_is_a_leaf_along_the_rows() -> None:
    added = single_body(bright=1, tail_px=(40, 40), softness=(0.3, 0.3))
    rows = np.flatnonzero(added.max(axis=1) > 1e-9)
    assert 36 <= len(rows) <= 41, "40 px high"
    middle = int(rows.mean().round())
    assert added.max() == pytest.approx(0.3, rel=0.01)
    lengths = [int((added[row] > added[row].max() / 2).sum()) for row in rows]
    assert lengths[len(rows) // 2] == max(lengths), "longest in the middle"
    assert lengths[0] < max(lengths) / 2
    peak_row = added[middle]
    last, first = np.flatnonzero(peak_row > 0.29)[[-1, 0]]
    half = np.flatnonzero(peak_row > 0.15)
    assert half[-1] - last > 15, "the tail follows the scan, to the right"
    assert first - half[0] <= 45
    edge = added[rows[3]].max() / 0.3
    radius = np.sqrt(1 - ((rows[3] - rows.mean()) / 20) ** 2)
    assert edge == pytest.approx(radius**0.6, abs=0.05)


def test_most_bodies_are_bright() -> None:
    assert single_body(bright=1).max() > 0.25
    assert single_body(bright=0).min() < -0.25


def test_drift_and_grain() -> None:
    drift = add_charge(np.zeros((400, 50)), Charge(bodies=(0, 0), grain=0), generator(3))
    assert drift.std(axis=0) == pytest.approx(np.full(50, 0.02))
    grain = add_charge(np.zeros((400, 50)), Charge(bodies=(0, 0), drift=1e-9), generator(3))
    assert grain.std() == pytest.approx(0.02, rel=0.02)


def test_rician_noise_has_the_moments_of_its_distribution() -> None:
    nothing = add_rician(np.zeros((300, 300)), 2.0, generator(0))
    assert nothing.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.01)
    assert nothing.mean() / nothing.std() == pytest.approx(1.913, rel=0.02)  # Rayleigh
    bright = add_rician(np.full((300, 300), 100.0), 2.0, generator(0))
    assert bright.std() == pytest.approx(2, rel=0.02)
    assert (bright**2).mean() == pytest.approx(100**2 + 2 * 2**2, rel=1e-3)


def test_a_generator_for_every_image() -> None:
    draws = {generator(*words).random() for words in [(0, "film", "", 1), (0, "film", "", 2), (1, "film", "", 1)]}
    draws |= {generator(0, "film", "noisy", 1).random(), generator(0, "charge", "", 1).random()}
    assert len(draws) == 5
    assert generator(0, "film", "", 1).random() in draws


# --- real images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mean_db", "within_db"), [("film", 24.3, 0.2), ("charge", 25.1, 1.0)])
def test_strength_on_the_flys_medulla(tmp_path: Path, kind: str, mean_db: float, within_db: float) -> None:
    """Mean of 13 sections; one section spreads by 0.2 and 1.5 dB."""
    source = tmp_path / "clean"
    source.mkdir()
    for path in sorted((real("em/em") / "em" / "flyem_medulla").iterdir())[::5]:
        shutil.copy(path, source)
    done = degrade_micrographs(source, tmp_path / "made", kind=kind, seed=0)
    assert len(done.psnr_db) == 13
    assert np.mean(done.psnr_db) == pytest.approx(mean_db, abs=within_db)
    clean, made = (np.stack([*read_micrographs(place)]) for place in (source, tmp_path / "made"))
    measured = -10 * np.log10(np.mean(((made - clean) / 255) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(measured, done.psnr_db, atol=1e-3)  # what is told is what was written


def test_strength_and_bias_of_rician_noise(tmp_path: Path) -> None:
    """24.5 dB of the 99.5th percentile; the background brighter by 1.0 to 1.25 sigma."""
    source = real("mri/mri") / "mri" / "clinical_3T" / "fig6A_T1w.nii"
    done = degrade_volume(source, tmp_path / "made.nii.gz", sigma=0.05, seed=0)
    assert np.mean(done.psnr_db) == pytest.approx(24.5, abs=0.3)
    clean, made = read_magnitude(source), read_magnitude(tmp_path / "made.nii.gz")
    background = clean.values < 0.02 * clean.window
    bias = (made.values - clean.values)[background].mean() / (0.05 * clean.window)
    assert 1.0 < bias < 1.25
    error = np.mean(((made.values - clean.values) / clean.window) ** 2, axis=(0, 1))
    np.testing.assert_allclose(-10 * np.log10(error), done.psnr_db, atol=1e-3)
    assert b"SIMULATED Rician noise 0.05" in nib.load(tmp_path / "made.nii.gz").header["descrip"].tobytes()


# --- the verb ------------------------------------------------------------------------------------------


def run(*words: object) -> int:
    return main(["degrade", *map(str, words)])


@pytest.mark.parametrize("kind", ["film", "charge"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = small_stack(tmp_path / "clean")
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        assert run(source, tmp_path / name, "--kind", kind, "--seed", seed) == 0
    assert " dB, standard deviation " in capsys.readouterr().err
    assert digest(tmp_path / "one") == digest(tmp_path / "same")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "same.json").read_bytes()
    assert digest(tmp_path / "one")["z1.tif"] != digest(tmp_path / "other")["z1.tif"]
    shutil.copytree(source, tmp_path / "part")
    (tmp_path / "part" / "z0.tif").unlink()
    assert run(tmp_path / "part", tmp_path / "made_part", "--kind", kind, "--seed", 1) == 0
    assert digest(tmp_path / "made_part")["z1.tif"] == digest(tmp_path / "one")["z1.tif"], "whatever lies beside it"
    assert run(source, tmp_path / "role", "--kind", kind, "--seed", 1, "--role", "test") == 0
    assert digest(tmp_path / "role")["z1.tif"] != digest(tmp_path / "one")["z1.tif"]


@pytest.mark.parametrize("kind", ["film", "charge"])
def test_a_section_alone_gets_its_own_noise(tmp_path: Path, kind: str) -> None:
    source, alone = small_stack(tmp_path / "clean"), small_stack(tmp_path / "alone", range(1))
    (alone / "z0.tif").unlink()
    shutil.copy(source / "z2.tif", alone)
    for folder in (source, alone):
        assert run(folder, tmp_path / f"{folder.name}_made", "--kind", kind) == 0
    assert digest(tmp_path / "alone_made")["z2.tif"] == digest(tmp_path / "clean_made")["z2.tif"]


def test_sections_degraded_one_by_one_are_a_folder(tmp_path: Path) -> None:
    """Each has its record beside it."""
    source = small_stack(tmp_path / "clean")
    for path in source.iterdir():
        assert run(path, tmp_path / "made" / path.name, "--kind", "film") == 0
    assert len(read_micrographs(tmp_path / "made")) == 3


def test_a_black_section_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Film multiplies: nothing changes, and JSON has no infinity."""
    source = small_stack(tmp_path / "clean")
    tifffile.imwrite(source / "z3.tif", np.zeros((64, 80), np.uint8))
    assert run(source, tmp_path / "made", "--kind", "film") == 0
    assert "in 3 images, 1 without any change" in capsys.readouterr().err
    text = (tmp_path / "made.json").read_text()
    assert json.loads(text)["psnr_db"]["3"] is None
    assert "Infinity" not in text
    assert run(source / "z3.tif", tmp_path / "black.tif", "--kind", "film") == 0
    assert "film: 1 without any change" in capsys.readouterr().err


def test_what_the_type_cannot_hold_is_counted(tmp_path: Path) -> None:
    values = np.linspace(0, 255, 40 * 40 * 3).reshape(40, 40, 3) ** 2 / 255
    nib.save(nib.Nifti1Image(values.astype("u1"), np.eye(4)), tmp_path / "a.nii")
    done = degrade_volume(tmp_path / "a.nii", tmp_path / "b.nii", sigma=0.3)
    full = np.count_nonzero(np.asarray(nib.load(tmp_path / "b.nii").dataobj) == 255)
    assert 0.9 * full < done.clipped <= full
    tifffile.imwrite(tmp_path / "a.tif", np.full((64, 64), 250, np.uint8))
    wide = degrade_micrographs(tmp_path / "a.tif", tmp_path / "b.tif", kind="charge", grey_range=(-100, 400))
    full = np.count_nonzero(tifffile.imread(tmp_path / "b.tif") == 255)
    assert 0.8 * full < wide.clipped <= full


def test_too_small_and_inside_of_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = small_stack(tmp_path / "clean")
    assert run(source, source / "made", "--kind", "film") == 2
    assert "lies inside" in capsys.readouterr().err
    assert len(list(source.iterdir())) == 3
    tifffile.imwrite(tmp_path / "row.tif", np.full((1, 40), 90, np.uint8))
    assert run(tmp_path / "row.tif", tmp_path / "made.tif", "--kind", "charge") == 2
    assert "row.tif: images of 1 x 40 pixels; allowed: 16 pixels or more" in capsys.readouterr().err


def test_the_record_says_what_was_done(tmp_path: Path) -> None:
    source = small_stack(tmp_path / "clean", range(10, 16, 2))
    assert run(source, tmp_path / "made", "--kind", "film", "--seed", 3, "--role", "noisy") == 0
    record = json.loads((tmp_path / "made.json").read_text())
    assert (record["kind"], record["seed"], record["role"]) == ("film", 3, "noisy")
    assert record["parameters"]["clouds"] == 0.10
    assert record["sources"] == digest(source)
    assert list(record["psnr_db"]) == ["10", "12", "14"]
    assert str(tmp_path) not in (tmp_path / "made.json").read_text(), "no folder of this machine"
    with tifffile.TiffFile(tmp_path / "made" / "z10.tif") as tif:
        assert "SIMULATED film noise, seed 3" in tif.pages[0].description


def test_sixteen_bits_need_a_range(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, np.random.default_rng(0).integers(1000, 3000, (64, 80)).astype(np.uint16))
    with pytest.raises(ConfigRefusal, match=r"uint16.*--grey-range LOW HIGH"):
        degrade_micrographs(source, tmp_path / "b.tif", kind="film")
    with pytest.raises(ConfigRefusal, match=r"a\.tif: grey range 5 to 5; allowed: two numbers, the lower one first"):
        degrade_micrographs(source, tmp_path / "b.tif", kind="film", grey_range=(5.0, 5.0))
    assert run(source, tmp_path / "b.tif", "--kind", "film", "--grey-range", 0, 4095) == 0
    made = tifffile.imread(tmp_path / "b.tif")
    assert made.dtype == np.uint16
    assert made.max() <= 4095


def test_rician_by_the_verb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((30, 40, 3), np.int16)
    values[5:25, 8:32] = rng.integers(200, 1000, (20, 24, 3))
    sagittal = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    source = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(values, sagittal), source)
    for name in ("one.nii", "same.nii"):
        assert run(source, tmp_path / name, "--kind", "rician", "--sigma", "0.1", "--seed", 4) == 0
    assert digest(tmp_path / "one.nii")["one.nii"] == digest(tmp_path / "same.nii")["same.nii"]
    made = nib.load(tmp_path / "one.nii")
    assert made.get_data_dtype() == np.int16
    np.testing.assert_array_equal(made.affine, sagittal)
    record = json.loads((tmp_path / "one.nii.json").read_text())
    assert record["parameters"]["sigma"] == 0.1
    assert record["parameters"]["window"] == pytest.approx(np.percentile(values, 99.5))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.tif", "b.tif", "--kind", "snow"], "allowed: film, charge, rician"),
        (["a.tif", "b.tif", "--kind", "film", "--sigma", "0.1"], "--sigma with film"),
        (["a.nii", "b.nii", "--kind", "rician", "--grey-range", "0", "1"], "--grey-range with rician"),
        (["a.tif", "b.tif", "--kind", "rician"], "a.tif for Rician noise; allowed: MR magnitude in .nii"),
        (["a.nii", "b.nii", "--kind", "rician", "--sigma", "0"], "sigma 0; allowed"),
        (["a.nii", "b.tif", "--kind", "rician"], "b.tif for a volume"),
        (["a.tif", "b.tif", "--kind", "film"], "no such file"),
    ],
)
def test_refused_arguments(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["degrade", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    source = small_stack(tmp_path / "clean")
    (tmp_path / "made.json").write_text("{}")
    with pytest.raises(OutputRefusal, match=r"made\.json exists"):
        degrade_micrographs(source, tmp_path / "made", kind="film")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "volume"])
@pytest.mark.parametrize("written", [True, False])
def test_nothing_degraded_stands_without_its_record(
    kind: str, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends at its record, before or after, leaves no result, and the next one makes both."""
    source, made = tmp_path / "source.nii", tmp_path / "made.nii"
    if kind == "volume":
        values = np.hypot(*np.random.default_rng(0).normal(0, 20, (2, 40, 40, 3)))
        values[10:30, 10:30] += 500
        nib.save(nib.Nifti1Image(values.astype("f4"), np.eye(4)), source)
    else:
        source, made = small_stack(tmp_path / "sections", range(1)), tmp_path / "made"
        source, made = (source / "z0.tif", tmp_path / "made.tif") if kind == "file" else (source, made)

    def degrade() -> object:
        return degrade_volume(source, made) if kind == "volume" else degrade_micrographs(source, made, kind="film")

    name = f"data_prep.degrade.{'volume' if kind == 'volume' else 'micrographs'}.write_record"

    def interrupted(*arguments: Any, **more: Any) -> None:
        if written:
            write_record(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            degrade()
    assert not made.exists()
    record = made.with_name(f"{made.name}.json")
    assert record.exists() is written
    if kind == "folder":
        made.mkdir()  # an empty one is free
    degrade()
    assert made.exists()
    assert json.loads(record.read_text())["psnr_db"]
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    record.write_text('{"by": "somebody else"}')
    with pytest.raises(OutputRefusal, match=r"\.json exists"):
        degrade()
    record.unlink()
    record.mkdir()
    with pytest.raises(OutputRefusal, match=r"\.json exists"):  # before the work, not after
        degrade()


def test_a_ct_volume_is_no_magnitude(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), -1000, np.int16), np.eye(4)), tmp_path / "ct.nii")
    with pytest.raises(ImageRefusal, match="a magnitude, 0 or more"):
        degrade_volume(tmp_path / "ct.nii", tmp_path / "b.nii")
