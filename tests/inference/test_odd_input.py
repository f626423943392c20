"""What hospitals and broken copies really send: nothing is lost in silence, and nothing usual is refused."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom.synthetic import Change, Series, only, setting
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.plan import plan
from iscl_monai.inference.series import Outcome, denoise_series

SMALL = {"rows": 20, "columns": 18}


def scan(folder: Path, change: Change | None = None, **kind: Any) -> list[Path]:
    """Slices ``IM000.dcm`` and so on."""
    files = Series(change=change, prefix="IM", **{**SMALL, **kind}).write(folder)
    return [path.rename(path.with_suffix(".dcm")) for path in files]


def denoised(source: Path, denoiser: Denoiser, **options: Any) -> Outcome:
    return denoise_series(source, source.parent / "out", denoiser=denoiser, **options)


def derived(outcome: Outcome) -> list[Dataset]:
    """The objects that were made, in the order of their names."""
    return [pydicom.dcmread(path) for path in sorted(outcome.destination.rglob("*.dcm"))]


def sources_of(outcome: Outcome) -> list[str]:
    return [str(one.SourceImageSequence[0].ReferencedSOPInstanceUID) for one in derived(outcome)]


# --- A: what lies where a slice should lie and cannot be read ----------------------------------------


def garbage(path: Path) -> bytes:
    return np.random.default_rng(0).bytes(path.stat().st_size)


def renamed(path: Path, name: str, content: bytes) -> None:
    path.rename(path.with_name(name)).write_bytes(content)


LOST: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one byte": lambda path: path.write_bytes(b"\0"),
    "garbage": lambda path: path.write_bytes(garbage(path)),
    "magic lost": lambda path: path.write_bytes(path.read_bytes().replace(b"DICM", b"\0\0\0\0", 1)),
    "first block lost": lambda path: path.write_bytes(bytes(256) + path.read_bytes()[256:]),
    "error page": lambda path: path.write_text("<html><body>404 Not Found</body></html>"),
    "Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
    "picture": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100)),
    "broken link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "gzip": lambda path: renamed(path, f"{path.name}.gz", gzip.compress(path.read_bytes())),
    "cut gzip": lambda path: renamed(path, f"{path.name}.gz", b"\x1f\x8b\x08"),
    "other name": lambda path: renamed(path, "sixth", bytes(3000)),
    "garbage with a suffix": lambda path: renamed(path, "data.bin", garbage(path)),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_slice_that_was_lost_is_never_passed_over(tmp_path: Path, kind: str) -> None:
    files = scan(tmp_path / "in")
    LOST[kind](files[3])
    with pytest.raises(DicomRefusal):
        plan(tmp_path / "in")
    with pytest.raises(DicomRefusal):
        read_series(tmp_path / "in", geometry="slices")
    assert any(one.damaged for one in find_series(tmp_path / "in").skipped)


@pytest.mark.parametrize("kind", ["empty", "zeros", "error page"])
def test_names_without_suffix_count_by_their_shape(tmp_path: Path, kind: str) -> None:
    files = Series(prefix="1.2.840.113619.", **SMALL).write(tmp_path / "in")  # type: ignore[arg-type]
    LOST[kind](files[2])
    with pytest.raises(DicomRefusal):
        plan(tmp_path / "in")


OTHERS: dict[str, bytes] = {
    "README.txt": b"of this disc",
    "README": b"of this disc",
    "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(5000),
    "._IM003.dcm": b"\0\x05\x16\x07" + bytes(4000),
    ".DS_Store": b"\0\0\0\x01Bud1" + bytes(6000),
    "desktop.ini": b"",
    "viewer.exe": b"MZ" + bytes(9000),
    "key.jpg": b"\xff\xd8\xff\xe0" + bytes(100),
    "report.pdf": b"%PDF-1.7",
    "scan.nii.gz": gzip.compress(b"\x5c\x01\0\0" + bytes(348)),
    "study.zip": b"PK\x03\x04" + bytes(50),
    "list.csv": b"",
    "transfer.done": b"",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_plainly_is_no_image_is_passed_over(tmp_path: Path, name: str) -> None:
    scan(tmp_path / "in")
    (tmp_path / "in" / name).write_bytes(OTHERS[name])
    assert plan(tmp_path / "in").series[0].count == 5
    assert read_series(tmp_path / "in").hu.shape[0] == 5


def test_a_lost_slice_holds_up_its_own_series_alone(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "good", description="good")
    scan(tmp_path / "in" / "bad", description="bad")[2].write_bytes(b"")
    decided = plan(tmp_path / "in")
    assert [one.title for one in decided.series] == ["good"]
    assert len(decided.refused) == 2  # the file, and its series
    with pytest.raises(DicomRefusal):
        plan(tmp_path / "in", strict=True)


def bare(path: Path, syntax: str = ImplicitVRLittleEndian) -> None:
    """Write the data set without the header of a file, as some archives keep it."""
    dataset = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
    del dataset.file_meta
    held = BytesIO()
    dataset.preamble = None
    uid = pydicom.uid.UID(syntax)
    pydicom.dcmwrite(held, dataset, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    path.write_bytes(held.getvalue())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_data_sets_without_a_files_header_are_read(tmp_path: Path, syntax: str, denoiser: Denoiser) -> None:
    made = Series(**SMALL)  # type: ignore[arg-type]
    for path in made.write(tmp_path / "in"):
        bare(path, syntax)
    np.testing.assert_array_equal(read_series(tmp_path / "in").hu, made.hu())
    assert len(derived(denoised(tmp_path / "in", denoiser))) == 5


def test_one_without_a_files_header_among_others_is_a_slice_too(tmp_path: Path) -> None:
    bare(scan(tmp_path / "in")[2])
    assert plan(tmp_path / "in").series[0].count == 5


# --- C: images that are no volume -------------------------------------------------------------------


def phases(dataset: Dataset, index: int) -> None:
    """Three times six places, phase by phase."""
    dataset.AcquisitionNumber = dataset.TemporalPositionIndex = index // 6 + 1


@pytest.mark.parametrize(
    ("slots", "change"),
    [
        ([*range(6)] * 3, phases),
        ([0] * 9, setting(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "BOLUS"])),  # a bolus that is watched
        ([place for place in range(4) for _ in range(5)], None),  # perfusion, place by place
        ([0, 1, 0, 1, 0, 1], None),  # shuttle
        ([0, 1, 2, 2, 3, 4], None),  # ranges that meet
        ([0, 1, 7, 8, 20], None),  # step and shoot
        ([3, 2, 1, 3, 2, 1], None),
    ],
)
def test_images_at_one_place_are_denoised_each_with_its_own_header(
    tmp_path: Path, denoiser: Denoiser, slots: list[int], change: Change | None
) -> None:
    files = scan(tmp_path / "in", change, slots=slots)
    sources = {str(dataset.SOPInstanceUID): dataset for dataset in map(pydicom.dcmread, files)}
    made = derived(denoised(tmp_path / "in", denoiser))
    assert len(made) == len({one.SOPInstanceUID for one in made}) == len(files)
    for one in made:
        source = sources.pop(str(one.SourceImageSequence[0].ReferencedSOPInstanceUID))
        for keyword in ("InstanceNumber", "AcquisitionNumber", "TemporalPositionIndex", "ImagePositionPatient"):
            assert one.get(keyword) == source.get(keyword)
        hu = source.pixel_array.astype(int)
        np.testing.assert_allclose(one.pixel_array, hu + np.rint(denoiser.change_hu(hu - 1024.0)), atol=1)
    assert not sources


def test_several_at_one_place_go_out_by_instance_number(tmp_path: Path, denoiser: Denoiser) -> None:
    scan(tmp_path / "in", slots=[*range(4)] * 2, order=[3, 1, 0, 2, 7, 5, 4, 6])
    assert [one.InstanceNumber for one in derived(denoised(tmp_path / "in", denoiser))] == [*range(1, 9)]


@pytest.mark.parametrize("changed", [{"PixelSpacing": [0.9, 0.9]}, {"FrameOfReferenceUID": "1.2.3"}])
def test_another_range_of_the_series_may_have_another_grid(tmp_path: Path, changed: dict[str, Any]) -> None:
    scan(tmp_path / "in", only(4, setting(**changed)))
    assert plan(tmp_path / "in").series[0].count == 5
    with pytest.raises(DicomRefusal, match="IM004"):  # a volume for training keeps its rule
        read_series(tmp_path / "in")


def test_a_volume_is_still_one_slice_per_place(tmp_path: Path) -> None:
    scan(tmp_path / "in", slots=[0, 1, 1, 2])
    for geometry in ("volume", "slices"):
        with pytest.raises(DicomRefusal, match="one slice per position"):
            read_series(tmp_path / "in", geometry=geometry)  # type: ignore[arg-type]


def test_a_refused_series_does_not_hold_up_the_study(tmp_path: Path, bundle: Path) -> None:
    scan(tmp_path / "in" / "a", description="thorax")
    scan(tmp_path / "in" / "b", setting(RescaleSlope=None), description="no slope")
    words = ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), "--bundle", str(bundle)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output
    assert "refused: " in done.stdout
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 5
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 2


# --- D: one SOP Instance is one image ---------------------------------------------------------------


def again(path: Path, name: str = "again.dcm", **elements: object) -> Path:
    """The same object once more, with elements changed."""
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    copy = path.with_name(name)
    dataset.save_as(copy)
    return copy


def sent_by_another(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.SourceApplicationEntityTitle = "PACS2"
    dataset.save_as(path.with_name("again.dcm"))


def compressed(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path.with_name("again.dcm"))


def implicit(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path.with_name("again.dcm"), implicit_vr=True)


def folder_copied(path: Path) -> None:
    shutil.copytree(path.parent, path.parent / "copy")


COPIES: dict[str, Callable[[Path], object]] = {
    "copy": lambda path: shutil.copy(path, path.with_name("IM003 (1).dcm")),
    "hard link": lambda path: os.link(path, path.with_name("again.dcm")),
    "link": lambda path: path.with_name("again.dcm").symlink_to(path),
    "another sender": sent_by_another,
    "another syntax": compressed,
    "implicit": implicit,
    "the whole folder": folder_copied,
    "without a file's header": lambda path: bare(Path(shutil.copy(path, path.with_name("again.dcm")))),
}


@pytest.mark.parametrize("kind", COPIES)
def test_the_same_object_twice_is_one_image(tmp_path: Path, denoiser: Denoiser, kind: str) -> None:
    files = scan(tmp_path / "in")
    COPIES[kind](files[3])
    outcome = denoised(tmp_path / "in", denoiser)
    assert sorted(sources_of(outcome)) == sorted(str(read_header(path).sop_instance_uid) for path in files)
    assert {"the same image again" in one.reason for one in outcome.skipped} == {True}
    assert read_series(tmp_path / "in").hu.shape[0] == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"PixelData": bytes(2 * 20 * 18)},
        {"RescaleIntercept": -1000},
        {"PatientName": "Somebody^Else"},
        {"WindowCenter": 300},
        {"SeriesDescription": "corrected"},
        {"ImageComments": "checked"},
    ],
)
def test_one_uid_and_another_image_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    again(scan(tmp_path / "in")[3], **changed)
    for use in (plan, read_series):
        with pytest.raises(DicomRefusal, match="SOPInstanceUID is that of"):
            use(tmp_path / "in")  # type: ignore[operator]


def test_one_uid_for_all_slices_is_no_copy(tmp_path: Path) -> None:
    scan(tmp_path / "in", setting(SOPInstanceUID="1.2.3"))  # by a de-identifier
    assert plan(tmp_path / "in").series[0].count == 5


# --- E: the odd image is blamed, not the majority ----------------------------------------------------

CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize("place", range(5))
def test_a_reference_image_across_the_others_is_set_aside(tmp_path: Path, place: int) -> None:
    files = scan(tmp_path / "in", only(place, setting(ImageOrientationPatient=CORONAL)))
    decided = plan(tmp_path / "in")
    assert decided.series[0].count == 4
    assert [one.path for one in decided.skipped] == [files[place]]
    with pytest.raises(DicomRefusal, match=f"{files[place].name}: ImageOrientationPatient"):
        read_series(tmp_path / "in")


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_the_image_of_another_patient_is_named_wherever_it_comes(tmp_path: Path, place: int, keyword: str) -> None:
    files = scan(tmp_path / "in", only(place, setting(**{keyword: "1.2.3.4"})))
    with pytest.raises(DicomRefusal, match=f"{files[place].name}: {keyword}"):
        plan(tmp_path / "in")


def test_a_gantry_that_is_tilted_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    tilted = [1, 0, 0, 0, float(np.cos(np.radians(20))), float(np.sin(np.radians(20)))]

    def tilt(dataset: Dataset, index: int) -> None:
        if index > 2:
            dataset.ImageOrientationPatient = tilted

    scan(tmp_path / "in", tilt)
    assert plan(tmp_path / "in").series[0].count == 5


# --- F: elements without bearing -------------------------------------------------------------------

TEXTS = [
    *("InstitutionName", "InstitutionAddress", "ImageComments", "ProtocolName", "StudyDescription"),
    *("PerformingPhysicianName", "OperatorsName"),
]


def latin(keyword: str, value: str) -> Change:
    """Text in ISO_IR 100 of a file that says it is UTF-8."""

    def change(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        setattr(dataset, keyword, value)

    return change


def says_utf8(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))


@pytest.mark.parametrize("keyword", TEXTS)
def test_text_without_bearing_is_carried_as_its_bytes(tmp_path: Path, denoiser: Denoiser, keyword: str) -> None:
    for path in scan(tmp_path / "in", latin(keyword, "Köln Süd")):
        says_utf8(path)
    for path in sorted(denoised(tmp_path / "in", denoiser).destination.iterdir()):
        held = pydicom.dcmread(path).get_item(keyword).value
        assert (b"K?ln S?d" if keyword == "ImageComments" else "Köln Süd".encode("latin-1")) in held  # ours is added


def test_text_in_a_nested_sequence_is_carried_too(tmp_path: Path, denoiser: Denoiser) -> None:
    item = Dataset()
    item.InstitutionName = "Köln"

    def nested(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.RequestAttributesSequence = [item]

    for path in scan(tmp_path / "in", nested):
        says_utf8(path)
    for one in derived(denoised(tmp_path / "in", denoiser)):
        assert one.RequestAttributesSequence[0].get_item("InstitutionName").value.startswith("Köln".encode("latin-1"))


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "AccessionNumber"])
def test_who_the_patient_is_must_be_readable(tmp_path: Path, denoiser: Denoiser, keyword: str) -> None:
    for path in scan(tmp_path / "in", latin(keyword, "Müller")):
        says_utf8(path)
    with pytest.raises(DicomRefusal):
        denoised(tmp_path / "in", denoiser)


# --- G and H: named series, and what is told early --------------------------------------------------


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("flavour", ["OTHER", "MPR", "Axial", "HELIX", "REFORMATTED", "VOLUME"])
@pytest.mark.parametrize("value", ["ORIGINAL", "DERIVED"])
def test_a_series_that_is_named_is_taken_whatever_value_3_says(tmp_path: Path, flavour: str, value: str) -> None:
    files = scan(tmp_path / "in", setting(ImageType=[value, "PRIMARY", flavour]))
    uid = read_header(files[0]).series_uid
    assert plan(tmp_path / "in", series_uid=uid).series[0].count == 5


def test_a_named_series_without_ct_is_not_said_to_be_misspelt(tmp_path: Path) -> None:
    scan(tmp_path / "in", setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), series_uid="1.2.3")
    with pytest.raises(DicomRefusal, match=r"localizer.*give another series"):
        plan(tmp_path / "in", series_uid="1.2.3")
    with pytest.raises(DicomRefusal, match="check the UID"):
        plan(tmp_path / "in", series_uid="1.2.4")


def test_hu_in_small_letters_are_hu(tmp_path: Path) -> None:
    scan(tmp_path / "in", setting(RescaleType="hu"))
    assert read_series(tmp_path / "in").hu.shape[0] == 5


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def compressed_and_shortened(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    shortened(path)


@pytest.mark.parametrize("spoil", [shortened, compressed_and_shortened])
@pytest.mark.parametrize("place", [0, 4])
def test_a_file_cut_short_is_told_before_the_first_slice(
    tmp_path: Path, spoil: Callable[[Path], None], place: int
) -> None:
    files = scan(tmp_path / "in")
    spoil(files[place])
    done = CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), "--dry-run"])
    assert done.exit_code == 2
    assert files[place].name in done.output


def test_a_syntax_without_decoder_is_told_before_the_first_slice(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(scan(tmp_path / "in")[3])
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.55")
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "in" / "IM003.dcm", enforce_file_format=True)
    with pytest.raises(DicomRefusal, match="TransferSyntaxUID"):
        plan(tmp_path / "in")


# --- I: nothing is said that nobody checked -----------------------------------------------------------


@pytest.mark.parametrize("said", [None, "YES", "NO"])
def test_burned_in_annotation_is_what_the_source_says(tmp_path: Path, denoiser: Denoiser, said: str | None) -> None:
    scan(tmp_path / "in", setting(BurnedInAnnotation=said) if said else None)
    assert {one.get("BurnedInAnnotation") for one in derived(denoised(tmp_path / "in", denoiser))} == {said}


# --- J: one verdict in all verbs ----------------------------------------------------------------------


def shifted(dataset: Dataset, index: int) -> None:
    dataset.RescaleIntercept = 0  # stored values are HU + 1024


def body(folder: Path, change: Change | None = None, **kind: Any) -> list[Path]:
    """Slices of a whole body: large enough for its values to be judged."""
    return scan(folder, change, **{"rows": 64, "columns": 64, "pixel_spacing_mm": (5.0, 5.0), **kind})


SAME_VERDICT: dict[str, Callable[[Path], object]] = {
    "good": lambda folder: body(folder),
    "single slice": lambda folder: body(folder, slots=[0]),
    "offset": lambda folder: body(folder, shifted),
    "no slope": lambda folder: body(folder, setting(RescaleSlope=None)),
    "lost slice": lambda folder: body(folder)[2].write_bytes(b""),
    "cut short": lambda folder: shortened(body(folder)[2]),
    "two patients": lambda folder: body(folder, only(1, setting(PatientID="P2"))),
    "sent twice": lambda folder: shutil.copy(body(folder)[2], folder / "again.dcm"),
    "one UID, two images": lambda folder: again(body(folder)[2], WindowCenter=17),
    "derived without units": lambda folder: body(
        folder, setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"], RescaleType=None)
    ),
}


@pytest.mark.parametrize("kind", SAME_VERDICT)
def test_scan_denoise_and_reading_agree(tmp_path: Path, kind: str) -> None:
    """``read_series`` is what dose, evaluate and training read by; the node asks ``plan``."""
    from data_prep.archive.scan import scan_archive

    SAME_VERDICT[kind](tmp_path / "in")
    uid = next(one.uid for one in find_series(tmp_path / "in").series)

    def takes(use: Callable[[], object]) -> bool:
        try:
            use()
        except DicomRefusal:
            return False
        return True

    verdicts = {
        "denoise": takes(lambda: plan(tmp_path / "in", series_uid=uid)),
        "read": takes(lambda: read_series(tmp_path / "in", geometry="slices")),
        "scan": all(row.fit for row in scan_archive(tmp_path / "in", tmp_path / "out").rows),
    }
    assert len(set(verdicts.values())) == 1, verdicts
    assert verdicts["read"] == (kind in ("good", "single slice", "sent twice", "derived without units"))


def test_a_derived_series_is_named_by_what_asks_for_it(tmp_path: Path) -> None:
    for name, uid in (("a", "1.2.7"), ("b", "1.2.5")):
        Series(series_uid=uid, change=setting(ImageType=["DERIVED", "PRIMARY", "AXIAL"])).write(tmp_path / name)
    with pytest.raises(DicomRefusal, match=r"if it is the one you mean: --series 1\.2\.5 \(or one of 1 others\)$"):
        plan(tmp_path)
    with pytest.raises(DicomRefusal, match=r"if it is the one you mean: --series 1\.2\.7$"):
        plan(tmp_path / "a")
