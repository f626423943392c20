"""Damaged and absurd files made from real ones: every call ends well or in a refusal, and nothing is left half done."""

from __future__ import annotations

import gzip
import io
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import gdcm
import nibabel
import numpy as np
import pydicom
from dicom.multiframe import Enhanced
from inference.damage import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    NATIVE,
    RLE,
    damaged,
    damaged_nifti,
)
from inference.niftis import DTYPES, Nifti, check_header, content_of
from pydicom.uid import UID
from real_data import real

from iscl_monai.dicom import rules
from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.headers import MULTIFRAME_CT, read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.errors import Refusal
from iscl_monai.inference import Denoiser, Outcome, denoise
from iscl_monai.inference.naming import folder_names
from iscl_monai.inference.plan import MultiFrame, Source, plan

CASES = int(os.environ.get("ISCL_MONAI_FUZZ", "0"))
"""How many DICOM files are tried, and a third as many NIfTI files, e.g. ``ISCL_MONAI_FUZZ=5000``; 0: those below."""

FURTHER = (101, 121, 128, 133, 145, 153, 156, 158, 201, 215, 238, 243, 259, 267, 291)
SEEDS = range(CASES) if CASES else (*range(100), *FURTHER)
"""Of DICOM files. The same in every run, so that a hundred stand for the first three hundred, and of the others those
that end as none before them: accepted with other counts, or refused for another element or with other words."""

VOLUME_SEEDS = range((CASES or 300) // 3)

SIDE_PX = 64
# Scanner by scanner: a real slice, and a transfer syntax for its crop.
SLICES = (
    ("robust/robust_transfer_syntaxes", "CTImage.dcm", (IMPLICIT, BIG, DEFLATED, JPEG)),  # GE
    ("test/totalsegmentator_abdomen", "CT.*16573", (JPEG_2000, EXPLICIT)),  # Siemens
    ("qa/ge_head_tilt", "**/01.dcm", (EXPLICIT, RLE)),  # GE; signed, padding
    ("qa/philips_phantom_mixed_folder", "**/S2010/I10", (EXPLICIT, JPEG_LS)),  # Philips
    ("test/covid19_ny_sbu_6_patients", "**/19010101-23.dcm", (EXPLICIT,)),  # Toshiba
    ("test/covid19_ny_sbu_6_patients", "A002304/axial/19001231-076.dcm", (JPEG_LS,)),  # GE; 220 elements
    ("test/sts_002_007_019", "STS_002/**/000000.dcm", (IMPLICIT,)),
    ("robust/robust_pydicom", "explicit_VR-UN.dcm", (JPEG_2000,)),  # TCIA; nearly everything has VR UN
)

# --- good files -------------------------------------------------------------------------------------


@cache
def corpus() -> tuple[tuple[bytes, ...], ...]:
    """Three neighbouring slices of each scanner and transfer syntax, and a multi-frame image; the bytes of files."""
    classic = (
        tuple(cropped(sorted(real(name).glob(pattern))[0], syntax, index) for index in range(3))
        for name, pattern, syntaxes in SLICES
        for syntax in syntaxes
    )
    return (*classic, *((multiframe(syntax),) for syntax in (EXPLICIT, IMPLICIT)))


def multiframe(syntax: str) -> bytes:
    """Made, as the only real ones here are colour maps."""
    with tempfile.TemporaryDirectory() as folder:
        made = Enhanced(frames=2, rows=SIDE_PX, columns=SIDE_PX, slopes=(1, 2), syntax=syntax)
        return made.write(Path(folder, "multiframe")).read_bytes()


def cropped(path: Path, syntax: str, index: int) -> bytes:
    """The middle of a slice with all its elements, moved to the next place and with a UID of its own."""
    dataset = pydicom.dcmread(path)
    top, left = (side // 2 - SIDE_PX // 2 - 5 * index for side in (dataset.Rows, dataset.Columns))
    pixels = dataset.pixel_array[top : top + SIDE_PX, left : left + SIDE_PX].copy()
    dataset.Rows = dataset.Columns = SIDE_PX
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{index + 1}"
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, round(z + 2.5 * index, 3)]
    native = syntax if syntax in NATIVE else EXPLICIT
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = UID(native)
    if syntax not in (*NATIVE, JPEG):
        dataset.compress(UID(syntax), generate_instance_uid=False)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    return as_jpeg(file.getvalue()) if syntax == JPEG else file.getvalue()


def as_jpeg(file: bytes) -> bytes:
    """JPEG Lossless, which only gdcm can write here."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.write_bytes(file)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(after))
        assert writer.Write()
        dataset, coded = pydicom.dcmread(before), pydicom.dcmread(after)
    # gdcm also changes elements (RescaleType becomes US), so only its pixels are taken.
    dataset.PixelData, dataset["PixelData"].is_undefined_length = coded.PixelData, True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(JPEG)
    dataset.save_as(recoded := io.BytesIO(), implicit_vr=False, little_endian=True)
    return recoded.getvalue()


# --- what must hold ---------------------------------------------------------------------------------


def attempt(seed: int, denoiser: Denoiser, folder: Path) -> bool:
    """Denoise a folder with one damaged file; whether it was accepted."""
    chance = random.Random(seed)
    good = chance.choice(corpus())
    bad = chance.randrange(len(good))
    spoilt = damaged(good[bad], chance)
    options = {"strict": chance.random() < 0.2, "save_residual": chance.random() < 0.2}
    return survives(good, bad, spoilt, denoiser, folder, **options)


def survives(
    good: tuple[bytes, ...], bad: int, spoilt: bytes, denoiser: Denoiser, folder: Path, **options: bool
) -> bool:
    """Check everything that must hold with one file of a folder replaced; whether it was accepted."""
    source, output = folder / "source", folder / "place" / "output"
    source.mkdir(parents=True)
    for index, file in enumerate(good):
        (source / f"{index}.dcm").write_bytes(spoilt if index == bad else file)
    before, refused, outcome = content(source), "", None
    try:
        outcome = denoise(source, output, denoiser=denoiser, workers=1, **options)
    except Refusal as refusal:
        refused = str(refusal)
    assert content(source) == before, "the source was changed"
    if outcome is None:
        assert len(refused.splitlines()) == 1, refused
        assert not list((folder / "place").glob("*")), f"left behind after: {refused}"
        return False
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    check_output(source, output, good, bad, outcome, denoiser, **options)
    return True


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def slices_of(path: Path) -> list[StoredSlice]:
    """The slice or the frames of a file, which is accepted as a source by that."""
    header = read_header(path)
    rules.check_image(header)
    return list(open_enhanced(path).slices()) if header.sop_class in MULTIFRAME_CT else [load_slice(header)[0]]


@cache
def undamaged(good: tuple[bytes, ...], denoiser: Denoiser) -> list[list[StoredSlice]]:
    """Denoised slices of a folder without damage, file by file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        for index, file in enumerate(good):
            (folder / "source" / f"{index}.dcm").write_bytes(file)
        denoise(folder / "source", folder / "output", denoiser=denoiser, workers=1)
        return [slices_of(path) for path in sorted((folder / "output").glob("*.dcm"))]


def check_output(
    source: Path, output: Path, good: tuple[bytes, ...], bad: int, outcome: Outcome, denoiser: Denoiser, **asked: bool
) -> None:
    """Every file is there and reads again, and pixels are changed only where they may be."""
    decided = plan(source, strict=asked["strict"])
    folders = [output / name for name in folder_names([one.title for one in decided.series])]
    done = [(one, folder) for one, folder in zip(decided.series, folders, strict=True) if folder.exists()]
    assert len(done) + len(outcome.refused) == len(decided.series) + len(decided.refused)
    assert [count for _, count in outcome.series] == [one.count for one, _ in done]
    if not outcome.refused:  # the exit code is 0: as many slices came out as went in
        assert outcome.skipped == ()
        assert sum(len(sources_of(one)) for one, _ in done) == len(good)
    for one, folder in done:
        for path, derived in zip(sources_of(one), sorted(folder.glob("*.dcm")), strict=True):
            slices, number = slices_of(derived), int(path.stem)
            for before, after in zip(slices_of(path), slices, strict=True):
                check_change(before, after)
                if asked["save_residual"]:
                    (removed,) = slices_of(folder / "residual" / derived.name)
                    np.testing.assert_array_equal(removed.stored, before.stored.astype(int) - after.stored)
            if number != bad:
                assert read_header(path).position == read_header(derived).position
                np.testing.assert_array_equal(slices[0].stored, undamaged(good, denoiser)[number][0].stored)


def sources_of(one: Source) -> list[Path]:
    return [one.image.path] if isinstance(one, MultiFrame) else [header.path for header in one.headers]


def check_change(before: StoredSlice, after: StoredSlice) -> None:
    assert before.stored.shape == after.stored.shape
    assert (before.slope, before.intercept) == (after.slope, after.intercept)
    padding = [one.padded if one.padded is not None else np.zeros(one.stored.shape, bool) for one in (before, after)]
    np.testing.assert_array_equal(*padding)
    hu = before.hu()
    kept = (hu < -1000) | (hu > 1000) | padding[0]
    np.testing.assert_array_equal(after.stored[kept], before.stored[kept])


def test_the_files_to_damage_are_good(denoiser: Denoiser) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(len(undamaged(good, denoiser)) == len(good) for good in corpus())


def attempt_nifti(seed: int, denoiser: Denoiser, folder: Path) -> bool:
    """Denoise a damaged file; whether it was accepted."""
    chance = random.Random(seed)
    made = Nifti(
        version=chance.choice((1, 2)),
        order=chance.choice("<>"),
        dtype=(dtype := chance.choice(DTYPES)),
        intercept=-1024.0 if dtype == "u2" else 0.0,
        comment=chance.choice((b"", b"kept")),
    )
    path = made.write(folder / chance.choice(("in.nii", "in.nii.gz")))
    whole = damaged_nifti(content_of(path), chance)
    if path.suffix == ".gz":
        whole = damaged_nifti(gzip.compress(whole, 1), chance) if chance.random() < 0.5 else gzip.compress(whole, 1)
    path.write_bytes(whole)
    target, refused = folder / "out.nii", ""
    try:
        denoise(path, target, denoiser=denoiser, workers=1)
    except Refusal as refusal:
        refused = str(refusal)
    assert path.read_bytes() == whole
    if refused:
        assert len(refused.splitlines()) == 1
        assert os.listdir(folder) == [path.name], f"left behind after: {refused}"
        return False
    assert sorted(os.listdir(folder)) == sorted([path.name, target.name])
    before, after = nibabel.load(path), nibabel.load(target)
    assert (before.shape, before.get_data_dtype()) == (after.shape, after.get_data_dtype())
    start, version = before.dataobj.offset, 1 if before.header.sizeof_hdr == 348 else 2
    check_header(content_of(path)[:start], target.read_bytes()[:start], version)
    hu = before.get_fdata()
    kept = (hu < -1000.01) | (hu > 1000.01)
    np.testing.assert_array_equal(after.get_fdata()[kept], hu[kept])
    return True


def test_damaged_slices_are_denoised_or_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    check_all(attempt, SEEDS, denoiser, tmp_path)


def test_damaged_volumes_are_denoised_or_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    check_all(attempt_nifti, VOLUME_SEEDS, denoiser, tmp_path)


def check_all(
    attempt_one: Callable[[int, Denoiser, Path], bool], seeds: Sequence[int], denoiser: Denoiser, place: Path
) -> None:
    accepted, wrong = 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                try:
                    accepted += attempt_one(seed, denoiser, Path(folder))
                except Exception as error:
                    wrong.append(f"{attempt_one.__name__}({seed}): {type(error).__name__}: {error}")
    assert not wrong, f"{len(wrong)} of {len(seeds)}: " + "; ".join(wrong[:20])
    assert 0.1 < accepted / len(seeds) < 0.9  # else little is tried
