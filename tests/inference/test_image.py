"""NIfTI: the header comes back byte for byte, voxels in their own type, and nothing is written that was not whole."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.niftis import DTYPES, Nifti, check_header, content_of

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.errors import ConfigRefusal, ImageRefusal, OutputRefusal
from iscl_monai.inference import Denoiser, denoise, denoise_volume

# --- what comes out ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    made=st.builds(
        Nifti,
        version=st.sampled_from([1, 2]),
        order=st.sampled_from("<>"),
        dtype=st.sampled_from(DTYPES),
        slope=st.sampled_from([1.0, 0.0, 0.5, 2.0, -1.0]),
        intercept=st.sampled_from([0.0, -1024.0, 40.0]),
        comment=st.sampled_from([b"", b"kept", b"x" * 100]),
    ).filter(Nifti.holds_hu),
    endings=st.tuples(st.sampled_from([".nii", ".nii.gz"]), st.sampled_from([".nii", ".nii.gz", ".NII.GZ"])),
)
def test_the_header_is_kept_and_voxels_stay_in_their_type(
    denoiser: Denoiser, made: Nifti, endings: tuple[str, str]
) -> None:
    slope, intercept = (made.slope, made.intercept) if made.slope else (1.0, 0.0)  # 0 means none (nifti1.h)
    with tempfile.TemporaryDirectory() as name:
        source = made.write(Path(name, f"in{endings[0]}"))
        target = Path(name, f"out{endings[1]}")
        outcome = denoise(source, target, denoiser=denoiser, workers=2)
        assert sorted(os.listdir(name)) == sorted([source.name, target.name])
        after = gzip.decompress(target.read_bytes()) if "gz" in endings[1].lower() else target.read_bytes()
    assert outcome.series == ((source.name, 3),)
    start = len(made.header())
    check_header(made.header(), after[:start], made.version)
    before = made.stored()
    stored = np.frombuffer(after[start:], before.dtype).reshape(made.shape, order="F")
    hu = before.astype(np.float64) * slope + intercept
    expected_hu = denoise_volume(hu.T.astype(np.float32), denoiser).T
    found_hu = stored.astype(np.float64) * slope + intercept
    limits = np.iinfo(made.dtype) if made.dtype[0] in "iu" else None
    ends = [float(end) * slope + intercept for end in (limits.min, limits.max)] if limits else [-1e9, 1e9]
    tolerance_hu = abs(slope) / 2 + 1e-3 if limits else 1e-3
    np.testing.assert_allclose(found_hu, expected_hu.clip(min(ends), max(ends)), rtol=0, atol=tolerance_hu)
    kept = (hu < -1000) | (hu > 1000)
    np.testing.assert_array_equal(stored[kept], before[kept])


@pytest.mark.parametrize("dtype", DTYPES)
def test_strength_0_and_a_repeat_give_the_same_bytes(bundle: Path, tmp_path: Path, dtype: str) -> None:
    made = Nifti(dtype=dtype, intercept=-1024.1 if dtype == "u2" else -0.1, slope=0.3)
    source = made.write(tmp_path / "in.nii")
    off = Denoiser.from_bundle(bundle, device="cpu", strength=0)
    for name in ("a.nii.gz", "b.nii.gz"):
        denoise(source, tmp_path / name, denoiser=off)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4)  # no time inside (RFC 1952)
    assert content_of(tmp_path / "a.nii.gz")[len(made.header()) :] == made.stored().tobytes(order="F")
    assert source.read_bytes() == made.header() + made.stored().tobytes(order="F")


@pytest.mark.parametrize("version", [1, 2])
def test_the_residual_is_what_was_taken_away(denoiser: Denoiser, tmp_path: Path, version: int) -> None:
    source = Nifti(version=version, order=">", slope=0.5, comment=b"not here").write(tmp_path / "in.nii")
    denoise(source, tmp_path / "out.nii.gz", denoiser=denoiser, save_residual=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.nii", "out.nii.gz", "out.residual.nii.gz"]
    before, after, removed = (
        nibabel.load(path) for path in (source, tmp_path / "out.nii.gz", tmp_path / "out.residual.nii.gz")
    )
    assert removed.get_data_dtype() == np.dtype(">f4")
    np.testing.assert_array_equal(removed.affine, before.affine)
    np.testing.assert_allclose(removed.get_fdata(), before.get_fdata() - after.get_fdata(), rtol=0, atol=1e-4)
    assert DISCLAIMER in bytes(removed.header["descrip"]).decode()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_header_with_a_wrong_size_in_it_keeps_its_geometry(denoiser: Denoiser, tmp_path: Path, order: str) -> None:
    """Its text lies where that kind of header has it, whatever the number says; readers mend the number."""
    made = Nifti(order=order)
    path = made.write(tmp_path / "in.nii")
    header = struct.pack(order + "i", 349) + made.header()[4:]
    path.write_bytes(header + path.read_bytes()[len(header) :])
    denoise(path, tmp_path / "out.nii", denoiser=denoiser)
    check_header(header, (tmp_path / "out.nii").read_bytes()[: len(header)], 1)


# --- what is refused --------------------------------------------------------------------------------


def scaled(lowest: float, highest: float) -> npt.NDArray[np.floating]:
    return np.random.default_rng(0).uniform(lowest, highest, (18, 20, 3))


WRONG = {
    "NaN": (Nifti(dtype="f4", values=np.full((18, 20, 3), np.nan)), "NaN or infinite values"),
    "one infinity": (Nifti(dtype="f4", values=np.where(scaled(0, 1) > 0.999, -np.inf, 40.0)), "NaN or infinite values"),
    "0 to 1": (Nifti(dtype="f4", values=scaled(0, 1)), "a mask or a picture"),
    "8 bits": (Nifti(dtype="u1", slope=8, intercept=-1024), "8-bit picture"),
    "no air": (Nifti(values=scaled(-150, 150)), "no air near -1000 HU"),
    "an offset": (Nifti(values=Nifti().stored() + 1024.0), "write RescaleIntercept -1024"),
    "a mask": (Nifti(dtype="u1", values=scaled(0, 1)), "a mask or a picture"),
    "too large": (Nifti(dtype="f4", values=scaled(0, 1e6)), "values that fit 16 bits"),
    "4-D": (Nifti(shape=(18, 20, 3, 2)), "three axes"),
    "2-D": (Nifti(shape=(18, 20)), "three axes"),
    "no slices": (Nifti(shape=(18, 20, 0)), "three axes"),
    "small": (Nifti(shape=(15, 20, 3)), "16 to 4096"),
    "complex": (Nifti(dtype="c8"), "complex values.*allowed: real numbers"),
    "infinite slope": (Nifti(slope=np.inf), "slope inf"),
    "NaN intercept": (Nifti(intercept=np.nan, values=np.zeros((18, 20, 3))), "real numbers|not readable"),
    "no affine": (Nifti(affine=(0, 0, 0)), "an invertible matrix"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_ct_volume_is_refused(denoiser: Denoiser, tmp_path: Path, name: str) -> None:
    made, words = WRONG[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.write(tmp_path / "in.nii")
    with pytest.raises(ImageRefusal, match=words):
        denoise(tmp_path / "in.nii", tmp_path / "out.nii", denoiser=denoiser)
    assert os.listdir(tmp_path) == ["in.nii"]


DAMAGE = {
    "empty": lambda whole: b"",
    "header only": lambda whole: whole[:352],
    "half": lambda whole: whole[: len(whole) // 2],
    "without its last byte": lambda whole: whole[:-1],
    "without its last bytes": lambda whole: whole[:-9],
    "longer": lambda whole: whole + b"\0",
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_of_another_length_is_refused(denoiser: Denoiser, tmp_path: Path, name: str, ending: str) -> None:
    path = Nifti().write(tmp_path / f"in{ending}")
    if (name, ending) == ("longer", ".nii.gz"):
        path.write_bytes(gzip.compress(DAMAGE[name](content_of(path))))
    else:
        path.write_bytes(DAMAGE[name](path.read_bytes()))
    with pytest.raises(ImageRefusal, match="not readable"):
        denoise(path, tmp_path / "out.nii", denoiser=denoiser)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("place", [-1, -8])
def test_a_wrong_checksum_is_refused(denoiser: Denoiser, tmp_path: Path, place: int) -> None:
    path = Nifti().write(tmp_path / "in.nii.gz")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageRefusal, match="not readable"):
        denoise(path, tmp_path / "out.nii.gz", denoiser=denoiser)


def test_places_that_are_taken_or_wrong_are_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    source = Nifti().write(tmp_path / "in.nii")
    (tmp_path / "taken.nii").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for wrong in ("taken.nii", "full", "in.nii", "in.nii/out.nii", "out.dcm", "out"):
        with pytest.raises(OutputRefusal):
            denoise(source, tmp_path / wrong, denoiser=denoiser)
    assert (tmp_path / "taken.nii").read_bytes() == b"mine"
    (tmp_path / "out.residual.nii").touch()
    with pytest.raises(OutputRefusal, match="residual"):
        denoise(source, tmp_path / "out.nii", denoiser=denoiser, save_residual=True)
    assert sorted(os.listdir(tmp_path)) == ["full", "in.nii", "out.residual.nii", "taken.nii"]


def test_options_for_dicom_and_other_formats_are_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    source = Nifti().write(tmp_path / "in.nii")
    for options in ({"series_uid": "1.2"}, {"strict": True}, {"keep_private": ["SIEMENS"]}):
        with pytest.raises(ConfigRefusal, match="with DICOM only"):
            denoise(source, tmp_path / "out.nii", denoiser=denoiser, **options)
    (tmp_path / "in.mha").touch()
    with pytest.raises(ImageRefusal, match=r"DICOM, \.nii or \.nii\.gz"):
        denoise(tmp_path / "in.mha", tmp_path / "out.mha", denoiser=denoiser)
