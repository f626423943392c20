"""Values are looked at: real and made-up CT passes, what was written wrong is refused by what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from real_data import real
from scipy.ndimage import gaussian_filter

from iscl_monai.dicom.monai_io import load_ct
from iscl_monai.dicom.nifti import NiftiVolume
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import find_series, read_series
from iscl_monai.dicom.value_faults import find_fault
from iscl_monai.dicom.value_statistics import SampledSlice, measure, sample_indices
from iscl_monai.dicom.values import Judgement, Verdict, check_dicom_values, check_image_values, judge_values
from iscl_monai.errors import DicomRefusal, ImageRefusal

Plane = npt.NDArray[np.float32]
SIDE = 128
SPACING_MM = 2.8
ROWS, COLUMNS = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) / (SIDE / 2)


def chest(seed: int = 0, noise_hu: float = 20.0) -> Plane:
    """A body of 300 mm with fat, muscle, lungs, spine and aorta, in air."""
    chance = np.random.default_rng(seed)
    radius = np.hypot(COLUMNS / 0.85, ROWS / 0.65)
    hu = np.where(radius < 1, -105.0, -1000.0)
    hu[radius < 0.88] = 45
    for side in (-0.38, 0.38):
        hu[np.hypot((COLUMNS - side) / 0.22, (ROWS + 0.05) / 0.32) < 1] = -830
    hu[np.hypot(COLUMNS, ROWS - 0.36) < 0.09] = 550
    hu[np.hypot(COLUMNS - 0.02, ROWS + 0.2) < 0.08] = 180
    noise = chance.normal(0, 1, hu.shape) * np.where(hu < -900, 0.4, 1)
    return (gaussian_filter(hu, 0.6) + noise_hu * noise).astype(np.float32)


def slices(change: Callable[[Plane], npt.ArrayLike] = lambda hu: hu, **made: float) -> list[SampledSlice]:
    return [(np.asarray(change(chest(seed, **made)), np.float32), None) for seed in range(3)]


def judged(
    change: Callable[[Plane], npt.ArrayLike] = lambda hu: hu, *, spacing_mm: float | None = SPACING_MM, **made: float
) -> Judgement:
    spacing = None if spacing_mm is None else (spacing_mm, spacing_mm)
    return judge_values(slices(change, **made), spacing_mm=spacing)


def whole(hu: Plane) -> npt.NDArray[np.int64]:
    return np.rint(hu).astype(np.int64)


def windowed(hu: Plane) -> Plane:
    return ((hu + 160) / 400).clip(0, 1)


WRONG: dict[str, tuple[Callable[[Plane], npt.ArrayLike], str, str]] = {
    # what was done to HU, what is found, what cures it
    "offset +1024": (lambda hu: hu + 1024, "as dense as bone, and no value below -200", "RescaleIntercept -1024"),
    "offset +1024, clipped": (lambda hu: (hu + 1024).clip(0), "as dense as bone", "RescaleIntercept -1024"),
    "offset +1000": (lambda hu: hu + 1000, "as dense as bone", "RescaleIntercept -1000"),
    "intercept -1024 twice": (lambda hu: hu - 1024, "below -1080 HU", "add 1024"),
    "intercept -1000 twice": (lambda hu: hu - 1000, "below -1080 HU", "add 1000"),
    "air at -800": (lambda hu: hu + 200, "surrounds the body lies at -800", "original"),
    "half": (lambda hu: hu / 2, "no air near -1000", "half"),
    "twice": (lambda hu: hu * 2, "below -1080 HU", "twice HU"),
    "ten times": (lambda hu: hu * 10, "below -1080 HU", "ten times HU"),
    "half the slope": (lambda hu: (hu + 1024) / 2 - 1024, "neither tissue nor lung", "half of what it should be"),
    "twice the slope": (lambda hu: (hu + 1024) * 2 - 1024, "as dense as bone", "twice what it should be"),
    "0 to 255": (lambda hu: np.rint(255 * windowed(hu)), "8-bit picture", "original"),
    "8 bits stretched": (lambda hu: np.rint((hu + 1024) / 16) * 16 - 1024, "steps of 16 HU, an 8-bit", "original"),
    "modulo 256": (lambda hu: whole(hu).astype(np.uint8), "8-bit picture", "original"),
    "0 to 1": (windowed, "normalised to [0, 1]", "original"),
    "-1 to 1": (lambda hu: hu.clip(-1000, 1000) / 1000, "normalised to [-1, 1]", "original"),
    "thousandths": (lambda hu: hu / 1000, "HU divided by 1000", "original"),
    "z-scores": (lambda hu: (hu - hu.mean()) / hu.std(), "z-scores", "original"),
    "logarithm": (lambda hu: np.log(hu.clip(-1024) + 1025), "logarithms", "original"),
    "soft tissue window": (lambda hu: hu.clip(-160, 240), "at exactly -160 HU, the lowest", "original"),
    "clipped above": (lambda hu: hu.clip(-1024, 150), "at exactly 150 HU, the highest", "original"),
    "signed as unsigned": (lambda hu: whole(hu).astype(np.int16).astype("u2"), "read as unsigned", "int16"),
    "wrapped at 12 bits": (lambda hu: whole(hu) % 4096, "wrapped around at 12 bits", "signed"),
    "air alone wrapped": (lambda hu: np.where(hu < -900, hu + 4096, hu), "wrapped around at 12 bits", "signed"),
    "noise of air wrapped": (lambda hu: np.where(hu < -1000, hu + 4096, hu), "amid air", "lower intercept"),
    "bytes swapped": (lambda hu: whole(hu).astype("i2").byteswap(), "bytes are swapped", "byte order"),
    "inverted": (lambda hu: -hu, "as dense as bone", "inverted"),
    "inverted, air at 0": (lambda hu: -1000 - hu, "smooth water around noisy air|below -1080", "inverted|original"),
    "squeezed around 300": (lambda hu: 300 + 90 * COLUMNS + hu / 40, "neither air nor lung", "original"),
    "16-bit pictures": (lambda hu: np.rint((hu + 1100) / 1800 * 65535), "as dense as bone", "original"),
    "cone beam, tissue at -400": (lambda hu: np.where(hu > -700, hu - 450, hu), "neither tissue nor lung", "original"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_hu_is_refused_by_what_it_is(name: str) -> None:
    change, finding, cure = WRONG[name]
    judgement = judged(change)
    assert judgement.verdict is Verdict.CONTRADICTED, judgement.finding
    assert any(words in judgement.finding for words in finding.split("|")), judgement.finding
    assert any(words in judgement.cure for words in cure.split("|")), judgement.cure
    with pytest.raises(ImageRefusal, match="allowed: Hounsfield units") as caught:
        check_image_values("scan.nii", judgement, trust_hu=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(DicomRefusal, match="scan: PixelData is"):
        check_dicom_values("scan", judgement, tags_say_hu=True)


GOOD: dict[str, Callable[[Plane], npt.ArrayLike]] = {
    "as it is": lambda hu: hu,
    "whole numbers": np.rint,
    "tenths": lambda hu: np.rint(10 * hu) / 10,
    "air clipped at -1000": lambda hu: hu.clip(-1000),
    "air clipped at -1024": lambda hu: hu.clip(-1024),
    "padding around": lambda hu: np.where(np.hypot(ROWS, COLUMNS) > 1, -3024, hu),
    "two kinds of padding": lambda hu: np.where(np.hypot(ROWS, COLUMNS) > 1.2, -32768, GOOD["padding around"](hu)),
    "lossy padding": lambda hu: np.where(np.hypot(ROWS, COLUMNS) > 1, -3024 + hu / 10, hu),
    "metal": lambda hu: np.where(np.hypot(ROWS, COLUMNS - 0.3) < 0.05, 3071, hu),
    "contrast": lambda hu: np.where(np.abs(hu - 180) < 60, 450, hu),
    "a table": lambda hu: np.where(np.abs(ROWS - 0.8) < 0.02, -600, hu),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("noise_hu", [3.0, 20.0, 200.0])
def test_good_ct_is_proven(name: str, noise_hu: float) -> None:
    judgement = judged(GOOD[name], noise_hu=noise_hu)
    assert judgement.verdict is Verdict.PROVEN, judgement.finding
    assert judgement.proof.startswith("air at -")
    assert judgement.proof.endswith("both in 3 of 3 slices looked at")
    check_image_values("scan.nii", judgement, trust_hu=False)
    check_dicom_values("scan", judgement, tags_say_hu=False)


def crop(hu: Plane) -> Plane:
    return hu[36:94, 55:73]


UNDETERMINED: dict[str, tuple[Callable[[Plane], npt.ArrayLike], float | None]] = {
    "a crop of the spine": (crop, 1.0),
    "a crop of unknown size": (crop, None),
    "water alone": (lambda hu: hu * 0 + np.random.default_rng(0).normal(0, 10, hu.shape), SPACING_MM),
    "air alone": (lambda hu: hu * 0 - 1000 + np.random.default_rng(0).normal(0, 10, hu.shape), SPACING_MM),
    "nothing": (lambda hu: hu * 0, SPACING_MM),
    "few pixels": (lambda hu: hu[:10, :10], 1.0),
    "a large body that fills the field": (lambda hu: np.repeat(np.repeat(crop(hu), 4, 0), 4, 1), 2.8),
}


@pytest.mark.parametrize("name", UNDETERMINED)
def test_where_nothing_can_be_seen_somebody_has_to_vouch(name: str) -> None:
    change, spacing_mm = UNDETERMINED[name]
    judgement = judged(change, spacing_mm=spacing_mm)
    assert judgement.verdict is Verdict.UNDETERMINED, judgement.finding
    assert judgement.proof == ""
    check_image_values("scan.nii", judgement, trust_hu=True)
    check_dicom_values("scan", judgement, tags_say_hu=True)
    with pytest.raises(ImageRefusal, match=r"--trust-hu \(trust_hu=True\)"):
        check_image_values("scan.nii", judgement, trust_hu=False)
    with pytest.raises(DicomRefusal, match="set RescaleType to HU only if"):
        check_dicom_values("scan", judgement, tags_say_hu=False)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 10, 57, 1000])
def test_slices_are_spread_evenly_around_the_middle(count: int) -> None:
    chosen = sample_indices(count)
    assert len(chosen) == min(count, 9)
    assert count // 2 in chosen or (count - 1) // 2 in chosen
    assert chosen[0] <= count / 9
    assert chosen[-1] >= count - 1 - count / 9
    assert len(set(np.diff(chosen).tolist())) <= 2


def test_padding_and_what_is_not_finite_are_not_looked_at() -> None:
    padded = np.hypot(ROWS, COLUMNS) > 0.9
    spoilt = [(np.where(padded, np.float32(np.nan), hu), None) for hu, _ in slices()]
    covered = [(np.where(padded, np.float32(20000), hu), padded) for hu, _ in slices()]
    assert judge_values(spoilt, spacing_mm=(2.8, 2.8)) == judge_values(covered, spacing_mm=(2.8, 2.8))
    assert judge_values(covered, spacing_mm=(2.8, 2.8)).verdict is Verdict.PROVEN


def test_no_slice_at_all() -> None:
    with pytest.raises(ValueError, match="no slice"):
        judge_values([])


# --- real scans ------------------------------------------------------------------------------------------

CT = (
    "qa/ge_head_tilt",
    "test/totalsegmentator_abdomen",
    "test/covid19_ny_sbu_6_patients",
    "test/sts_002_007_019",
    "train/acrin_flt_breast_001",
    "train/cmb_crc_01068",
    "train/lidc_idri_0001",
    "train/rider_pilot_0109",
    "train/sts_14_patients",
    "train/tcia_single_slices",
)
NOT_PROVEN = {
    "IBSI_1_STS_002_CT_image": "a crop of 148 mm without air",
    "CHEST ROUTINE  5.0  B20f": "one slice, little soft tissue beside lung and contrast",
}


@lru_cache
def real_scans(name: str) -> Sequence[tuple[str, list[SampledSlice], tuple[float, float]]]:
    """Title, sampled slices and spacing of every series that the headers allow."""
    scans = []
    with without_warnings():
        for found in find_series(real(name)).series:
            try:
                series = read_series(found.files[0].parent, series_uid=found.headers[0].series_uid, geometry="slices")
            except DicomRefusal:  # by its headers
                continue
            sampled = [
                (series.hu[index], None if series.padded is None else series.padded[index])
                for index in sample_indices(len(series.hu))
            ]
            scans.append((series.description, sampled, series.pixel_spacing_mm))
    return scans


@pytest.mark.slow
@pytest.mark.parametrize("name", CT)
def test_real_ct_is_proven(name: str) -> None:
    scans = real_scans(name)
    assert scans
    for title, sampled, spacing_mm in scans:
        judgement = judge_values(sampled, spacing_mm=spacing_mm)
        assert judgement.verdict is not Verdict.CONTRADICTED, (title, judgement.finding)
        assert judgement.verdict is Verdict.PROVEN or title in NOT_PROVEN, (title, judgement.finding)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_no_crop_of_real_ct_is_contradicted(share: float) -> None:
    for name in CT:
        for title, sampled, spacing_mm in real_scans(name):
            cropped = []
            for hu, padded in sampled:
                part = tuple(slice(int(n * (1 - share) / 2), int(n * (1 + share) / 2)) for n in hu.shape)
                cropped.append((hu[part], None if padded is None else padded[part]))
            fault = find_fault(measure(cropped, spacing_mm)) if min(cropped[0][0].shape) > 40 else None
            assert fault is None, (title, fault)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["offset +1024", "intercept -1024 twice", "half", "twice", "soft tissue window"])
def test_real_ct_that_was_written_wrong_is_refused(name: str) -> None:
    change = WRONG[name][0]
    for archive in ("train/rider_pilot_0109", "qa/ge_head_tilt", "test/totalsegmentator_abdomen"):
        for title, sampled, spacing_mm in real_scans(archive):
            wrong = [(np.asarray(change(hu), np.float32), padded) for hu, padded in sampled]
            judgement = judge_values(wrong, spacing_mm=spacing_mm)
            assert judgement.verdict is Verdict.CONTRADICTED, (archive, title, judgement.finding)


def stretched(plane: Plane, lowest: float, highest: float) -> Plane:
    """Two values of a picture at -1000 and 40."""
    return np.rint((plane - lowest) / max(highest - lowest, 1) * 1040 - 1000).astype(np.float32)


def mri_and_microscopy() -> Sequence[tuple[str, list[Plane]]]:
    found = []
    for path in sorted(real("mri/mri").rglob("*.nii")):
        volume = np.abs(np.asarray(nibabel.load(path).dataobj)).astype(np.float32)
        volume = volume.reshape(*volume.shape[:2], -1)
        found.append((path.name, [volume[..., index] for index in range(volume.shape[2])]))
    pictures = sorted(real("em/em").rglob("*SEM.tif"))
    found.extend((path.name, [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))]) for path in pictures)
    return [(name, [plane.astype(np.float32) for plane in planes]) for name, planes in found if planes[0].ndim == 2]


@pytest.mark.slow
def test_mr_and_microscopy_are_refused_in_whatever_scale() -> None:
    seen = mri_and_microscopy()
    assert len(seen) > 20
    for name, planes in seen:
        pixels = np.concatenate([plane.ravel()[::7] for plane in planes])
        ends = np.quantile(pixels, [0, 0.01, 0.5, 0.75, 0.99, 1])
        counts, edges = np.histogram(pixels, 256)
        dark = float(edges[counts[:64].argmax()])
        scales = [(low, high) for low in (ends[1], dark) for high in (*ends[2:4], ends[4] * 0.52)]
        for scale in scales:
            changed: list[SampledSlice] = [(stretched(plane, *scale), None) for plane in planes]
            judgement = judge_values(changed)
            assert judgement.verdict is not Verdict.PROVEN, (name, scale, judgement.finding)


# --- the ways in -----------------------------------------------------------------------------------------


def saved(path: Path, volume: npt.NDArray[np.generic], **kind: str) -> Path:
    if path.suffix == ".mha":
        image = SimpleITK.GetImageFromArray(volume.transpose(2, 1, 0))
        image.SetSpacing((SPACING_MM, SPACING_MM, 3))
        SimpleITK.WriteImage(image, str(path))
    else:
        nibabel.Nifti1Image(volume, np.diag([-SPACING_MM, -SPACING_MM, 3, 1])).to_filename(path)
    return path


def volume() -> npt.NDArray[np.int16]:
    return np.stack([np.rint(chest(seed)).T for seed in range(4)], -1).astype(np.int16)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
def test_volume_files_are_looked_at(tmp_path: Path, ending: str) -> None:
    good = saved(tmp_path / f"good{ending}", volume())
    offset = saved(tmp_path / f"offset{ending}", (volume() + 1024).clip(0).astype(np.uint16))
    inside = saved(tmp_path / f"inside{ending}", volume()[55:73, 36:94])
    assert load_ct(good)[0].min() < -900
    with pytest.raises(ImageRefusal, match="RescaleIntercept -1024"):
        load_ct(offset, trust_hu=True)
    with pytest.raises(ImageRefusal, match=r"no air near -1000 HU.*--trust-hu"):
        load_ct(inside)
    assert load_ct(inside, trust_hu=True)[0].size > 0
    if ending != ".mha":
        assert NiftiVolume(good).count == 4
        with pytest.raises(ImageRefusal, match="RescaleIntercept -1024"):
            NiftiVolume(offset, trust_hu=True)
        with pytest.raises(ImageRefusal, match="no air near -1000 HU"):
            NiftiVolume(inside)
        assert NiftiVolume(inside, trust_hu=True).count == 4


@pytest.mark.parametrize("axes", [4, 5])
def test_axes_of_length_one_behind_the_third_are_none(tmp_path: Path, axes: int) -> None:
    path = saved(tmp_path / "one.nii", volume().reshape(SIDE, SIDE, 4, *[1] * (axes - 3)))
    np.testing.assert_array_equal(load_ct(path)[0], volume())
    assert NiftiVolume(path).count == 4
    with pytest.raises(ImageRefusal, match="three axes"):
        load_ct(saved(tmp_path / "two.nii", np.stack([volume(), volume()], -1)))


def test_the_imaginary_part_of_an_nrrd_is_not_dropped(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(volume().transpose(2, 0, 1) * np.complex64(1 + 1j))
    SimpleITK.WriteImage(image, tmp_path / "complex.nrrd")
    with pytest.raises(ImageRefusal, match=r"complex values.*allowed: real numbers"):
        load_ct(tmp_path / "complex.nrrd")


@pytest.mark.parametrize("scale", [1.0, 4096 / np.pi], ids=["radians", "integers"])
def test_phase_images_are_no_ct_even_if_somebody_vouches(tmp_path: Path, scale: float) -> None:
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, (SIDE, SIDE, 4)) * scale
    path = saved(tmp_path / "phase.nii", phase.astype(np.float32 if scale == 1 else np.int16))
    for read in (load_ct, NiftiVolume):
        with pytest.raises(ImageRefusal, match="allowed: Hounsfield units"):
            read(path, trust_hu=True)


@pytest.mark.parametrize("name", ["ulf_055T/fig6A_T1w.nii", "clinical_3T/fig6A_T2w.nii"])
def test_real_mr_is_no_ct_even_if_somebody_vouches(name: str) -> None:
    for read in (load_ct, NiftiVolume):
        with pytest.raises(ImageRefusal, match="allowed: Hounsfield units"):
            read(real("mri/mri") / "mri" / name, trust_hu=True)


def test_complex_and_colour_volumes_are_refused_by_what_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "complex.nii", volume().astype(np.complex64))
    colour = saved(tmp_path / "colour.nii", np.zeros((20, 20, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for read in (load_ct, NiftiVolume):
        with pytest.raises(ImageRefusal, match="complex values"):
            read(path)
        with pytest.raises(ImageRefusal, match="colour"):
            read(colour)
