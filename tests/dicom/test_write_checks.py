"""The pieces of writing a slice: pixels, the encoding, and the comparison of what was written with what is read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.derived import derivation, derive, read, write_source
from dicom.synthetic import Series, setting
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from iscl_monai.dicom import write as writing
from iscl_monai.dicom.compare import first_difference
from iscl_monai.dicom.derive import slice_identity
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import (
    SeriesWriter,
    changed_on_disk,
    not_written,
    set_pixels,
    write_and_verify,
    write_derived_series,
)
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal


@pytest.fixture
def dataset(tmp_path: Path) -> FileDataset:
    """A data set as it is written, Explicit VR Little Endian."""
    return read(write_source(tmp_path))


# --- pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_pixels_are_put_in_as_little_endian_words(byte_order: str) -> None:
    dataset = Dataset()
    dataset.ExtendedOffsetTable = dataset.ExtendedOffsetTableLengths = b"\0" * 8
    set_pixels(dataset, np.array([[1, -2], [300, -32768]], f"{byte_order}i2"))
    assert dataset.PixelData == b"\x01\x00\xfe\xff\x2c\x01\x00\x80"
    assert dataset["PixelData"].VR == "OW"
    assert dataset["PixelData"].is_undefined_length is False
    assert list(dataset.keys()) == [dataset["PixelData"].tag]


def test_an_odd_number_of_bytes_is_filled_up_with_a_zero() -> None:
    dataset = Dataset()
    set_pixels(dataset, np.array([[1, 2, 255]], np.uint8))
    assert dataset.PixelData == b"\x01\x02\xff\x00"


# --- the encoding ------------------------------------------------------------------------------------


def test_the_preamble_is_not_inherited(tmp_path: Path) -> None:
    path = write_source(tmp_path)
    path.write_bytes(b"II*\0" + b"\1" * 124 + path.read_bytes()[128:])  # a TIFF file, too: it points to the old pixels
    assert derive(path).preamble == b"\0" * 128


def test_a_file_has_its_preamble_even_if_the_data_set_has_none(tmp_path: Path, dataset: FileDataset) -> None:
    dataset.preamble = None
    write_and_verify(dataset, tmp_path / "file.dcm", source="here")
    assert (tmp_path / "file.dcm").read_bytes()[128:132] == b"DICM"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_another_encoding_is_never_written(tmp_path: Path, dataset: FileDataset, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(DicomRefusal, match="here: an element is not writable"):
        write_and_verify(dataset, tmp_path / "file.dcm", source="here")


# --- what is not written -----------------------------------------------------------------------------


def wrapped(outer: Exception, inner: BaseException, *, explicitly: bool) -> Exception:
    """One error raised while another was handled."""
    try:
        try:
            raise inner
        except BaseException as error:
            raise outer from (error if explicitly else None)
    except Exception as both:
        both.__cause__ = inner if explicitly else None
        return both


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        wrapped(OSError("With tag (0010,0010) got exception"), FULL, explicitly=True),
        wrapped(ValueError("no number"), FULL, explicitly=False),
        wrapped(ValueError("outermost"), wrapped(OSError("middle"), FULL, explicitly=True), explicitly=False),
    ],
)
def test_the_disk_is_named_however_deep_it_lies(error: Exception) -> None:
    refusal = not_written(Path("out.dcm"), error, "source.dcm")
    assert isinstance(refusal, OutputRefusal)
    assert refusal.came == "out.dcm cannot be written (No space left on device)"
    assert refusal.allowed == "a folder with write permission and space left"
    assert refusal.cure == "make room or give another place"


def test_an_error_of_the_disk_without_words_is_named_by_its_number() -> None:
    assert str(errno.EIO) in not_written(Path("out.dcm"), OSError(errno.EIO, ""), "source.dcm").came


@pytest.mark.parametrize("error", [ValueError("bad\n   value"), OSError("bad\n   value")])
def test_a_value_that_cannot_be_encoded_is_the_sources_fault(error: Exception) -> None:
    refusal = not_written(Path("out.dcm"), error, "source.dcm")
    assert isinstance(refusal, DicomRefusal)
    assert (refusal.file, refusal.tag, refusal.found) == ("source.dcm", "an element", "not writable (bad value)")
    assert refusal.allowed == "values that DICOM can hold"
    assert refusal.cure == "export the series again, or remove that element"


def test_a_long_reason_is_cut() -> None:
    refusal = not_written(Path("out.dcm"), ValueError("x" * 1000), "source.dcm")
    assert isinstance(refusal, DicomRefusal)
    assert refusal.found == f"not writable ({'x' * 160})"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, dataset: FileDataset) -> None:
    path = tmp_path / "absent" / "file.dcm"
    with pytest.raises(OutputRefusal) as caught:
        write_and_verify(dataset, path, source="source.dcm")
    assert caught.value.came == f"{path} cannot be written (No such file or directory)"


def test_a_disk_that_gives_something_else_back_is_refused(
    tmp_path: Path, dataset: FileDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_badly(path: Path, write: Any) -> None:
        with path.open("wb") as file:
            write(file)
        path.write_bytes(path.read_bytes().replace(b"Test^Person", b"Test^Perron"))

    monkeypatch.setattr(writing, "write_file", write_badly)
    with pytest.raises(OutputRefusal) as caught:
        write_and_verify(dataset, tmp_path / "file.dcm", source="source.dcm")
    words = "reads back with another (0010,0010) PatientName (derived from source.dcm)"
    assert caught.value.came == f"{tmp_path / 'file.dcm'} {words}"


def test_a_file_that_cannot_be_read_back_is_refused(
    tmp_path: Path, dataset: FileDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, write: Any) -> None:
        path.write_bytes(b"half")

    monkeypatch.setattr(writing, "write_file", write_half)
    with pytest.raises(DicomRefusal) as caught:
        write_and_verify(dataset, tmp_path / "file.dcm", source="source.dcm")
    assert caught.value.file == "source.dcm"


def test_a_changed_file_is_named_with_its_source() -> None:
    refusal = changed_on_disk(Path("out.dcm"), "(0018,0060) KVP", "source.dcm")
    assert refusal.came == "out.dcm reads back with another (0018,0060) KVP (derived from source.dcm)"
    assert refusal.allowed == "what was written"
    assert "check the disk" in refusal.cure


# --- the comparison ----------------------------------------------------------------------------------


def with_meta(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.file_meta = Dataset()  # type: ignore[assignment]  # enough to compare
    made.file_meta.ImplementationVersionName = "ISCL"
    return made


def test_equal_data_sets_do_not_differ() -> None:
    assert first_difference(with_meta(KVP="120"), with_meta(KVP="120")) is None
    read_again = with_meta(KVP="120")
    read_again.file_meta.FileMetaInformationGroupLength = 8  # added by writing
    assert first_difference(with_meta(KVP="120"), read_again) is None


def test_the_file_meta_information_counts() -> None:
    other = with_meta(KVP="120")
    other.file_meta.ImplementationVersionName = "OTHER"
    assert first_difference(with_meta(KVP="120"), other) == "file meta information"
    del other.file_meta.ImplementationVersionName
    assert first_difference(with_meta(KVP="120"), other) == "file meta information"


def test_an_element_on_one_side_alone_is_a_difference() -> None:
    with_it, without = with_meta(PatientID="P", KVP="120"), with_meta(PatientID="P")
    assert first_difference(with_it, without) == "(0018,0060) KVP"
    assert first_difference(without, with_it) == "(0018,0060) KVP"


def test_the_first_difference_is_that_of_the_lowest_tag() -> None:
    assert first_difference(with_meta(KVP="1", PatientID="A"), with_meta(KVP="2", PatientID="B")) == (
        "(0010,0020) PatientID"
    )


def test_a_private_element_is_named_by_its_number() -> None:
    one, other = with_meta(), with_meta()
    one.add_new(0x00091001, "LO", "one")
    other.add_new(0x00091001, "LO", "other")
    assert first_difference(one, other) == "(0009,1001)"


def element(vr: str, value: Any) -> Dataset:
    made = with_meta()
    made[0x00091001] = DataElement(0x00091001, vr, value)
    return made


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("LO", "x"), ("LO", "x"), True),
        (("LO", "x"), ("LO", "y"), False),
        (("LO", "x"), ("SH", "x"), False),
        (("LO", ""), ("LO", None), True),
        (("LO", ""), ("SH", ""), False),
        (("LO", "x"), ("LO", ""), False),
        (("LO", ""), ("LO", "x"), False),
        (("LO", "x"), ("SH", ""), False),
        (("LO", ""), ("SH", "x"), False),
    ],
)
def test_values_and_their_kind_count(one: tuple[str, Any], other: tuple[str, Any], same: bool) -> None:
    assert (first_difference(element(*one), element(*other)) is None) == same


def nested(*items: Dataset) -> Dataset:
    made = with_meta()
    made.ReferencedImageSequence = list(items)
    return made


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([item(PatientID="A")], [item(PatientID="A")], True),
        ([item(PatientID="A")], [item(PatientID="B")], False),
        ([item(PatientID="A"), item(KVP="1")], [item(PatientID="A"), item(KVP="2")], False),
        ([item(PatientID="A")], [item(PatientID="A"), item(PatientID="A")], False),
        ([item(PatientID="A"), item(PatientID="A")], [item(PatientID="A")], False),
        ([item(PatientID="A")], [], False),
        ([item(PatientID="A")], [item(PatientID="A", KVP="1")], False),
        ([item(PatientID="A", KVP="1")], [item(PatientID="A")], False),
        ([], [], True),
        ([item(ReferencedSeriesSequence=[item(KVP="1")])], [item(ReferencedSeriesSequence=[item(KVP="1")])], True),
        ([item(ReferencedSeriesSequence=[item(KVP="1")])], [item(ReferencedSeriesSequence=[item(KVP="2")])], False),
    ],
)
def test_sequences_are_compared_item_by_item(one: list[Dataset], other: list[Dataset], same: bool) -> None:
    assert (first_difference(nested(*one), nested(*other)) is None) == same


@pytest.mark.parametrize(
    ("stored", "same"),
    [
        (b"M\xfcller", True),
        (b"M\xfcller ", True),
        (b"M\xfcller\0", True),
        (b" M\xfcller", False),
        (b"M\xfclleX", False),
    ],
)
def test_text_that_its_character_set_does_not_have_is_compared_as_bytes(stored: bytes, same: bool) -> None:
    """An even length is reached with a space or a zero; nothing else may change."""
    tag = Tag("InstitutionName")
    written, read = with_meta(), with_meta()
    written[tag] = DataElement(tag, "LO", b"M\xfcller", already_converted=True)
    read[tag] = RawDataElement(tag, "LO", len(stored), stored, 0, is_implicit_VR=False, is_little_endian=True)
    assert (first_difference(written, read) is None) == same


# --- the series --------------------------------------------------------------------------------------


def test_a_series_without_uid_is_named_by_its_slices_in_whatever_order(tmp_path: Path) -> None:
    files = Series(change=setting(SeriesInstanceUID=None)).write(tmp_path / "source")
    headers = [read_header(file) for file in files]
    first = min(slice_identity(header) for header in headers)
    for order in (headers, headers[::-1]):
        assert SeriesWriter(order, derivation(), tmp_path).series_identity == first
    named = read_header(Series(series_uid="1.2.3").write(tmp_path / "named")[0])
    assert SeriesWriter([named], derivation(), tmp_path).series_identity == "1.2.3"


def test_slices_of_a_series_become_slices_of_one_series(tmp_path: Path) -> None:
    derived = []
    for uid in ("1.2.3", "1.2.4"):
        Series(slots=range(3), signed=True, series_uid=uid).write(tmp_path / uid)
        series = read_series(tmp_path / uid)
        files = write_derived_series(series, series.hu, tmp_path / f"derived {uid}", derivation=derivation())
        derived.append({read(file).SeriesInstanceUID for file in files})
    assert derived == [{derivation().uid("series", uid)} for uid in ("1.2.3", "1.2.4")]


@pytest.fixture
def writer(tmp_path: Path) -> SeriesWriter:
    (tmp_path / "derived").mkdir()
    return SeriesWriter([read_header(write_source(tmp_path))], derivation(), tmp_path / "derived")


def test_what_the_disk_changes_is_named_with_the_source(writer: SeriesWriter) -> None:
    source, dataset = load_slice(writer.headers[0])
    dataset.SpecificCharacterSet, dataset.InstitutionName = "ISO_IR 13", "\uff91\uff88 CT"  # written with ? by pydicom
    with without_warnings(), pytest.raises(OutputRefusal) as caught:
        writer.write(0, dataset, source.stored)
    assert f"(derived from {writer.headers[0].path})" in caught.value.came


def test_a_header_that_cannot_be_derived_is_named(writer: SeriesWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Dataset:
        raise ValueError("an element that nobody thought of")

    monkeypatch.setattr(writing, "derive_header", fail)
    source, dataset = load_slice(writer.headers[0])
    with pytest.raises(DicomRefusal) as caught:
        writer.write(0, dataset, source.stored)
    assert caught.value.file == str(writer.headers[0].path)


def test_files_are_named_after_their_place(tmp_path: Path) -> None:
    Series(slots=range(3), signed=True).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    files = write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    assert [file.relative_to(tmp_path) for file in files] == [Path(f"derived/0000{number}.dcm") for number in (1, 2, 3)]
    assert all(file.is_file() for file in files)


def test_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    Series(slots=range(3), signed=True).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    with pytest.raises(ImageRefusal) as caught:
        write_derived_series(series, series.hu[:2], tmp_path / "derived", derivation=derivation())
    assert caught.value.came == "an array of shape (2, 6, 4), finite: True"
    assert caught.value.allowed == "finite Hounsfield units of shape (3, 6, 4) (slice, row, column)"
    with pytest.raises(ImageRefusal, match=r"shape \(3, 6, 4\), finite: False"):
        write_derived_series(series, series.hu * np.nan, tmp_path / "derived", derivation=derivation())


def test_a_source_that_is_no_dicom_file_any_more_is_refused(tmp_path: Path) -> None:
    Series(slots=range(3), signed=True).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    series.files[1].write_text("no more")
    with pytest.raises(DicomRefusal) as caught:
        write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    assert (caught.value.file, caught.value.tag) == (str(series.files[1]), "file")
    assert "another one than" in str(caught.value.found)


@pytest.mark.parametrize(
    ("slope", "lowest", "highest"),
    [
        # Signed 16 bits are -32768 to 32767; with an intercept of -1024 and one step of grace at either end.
        (1.0, -32768 - 1024 - 1, 32767 - 1024 + 1),
        (-1.0, -32767 - 1024 - 1, 32768 - 1024 + 1),
        (2.0, -65536 - 1024 - 2, 65534 - 1024 + 2),
    ],
)
def test_what_the_stored_type_can_hold(tmp_path: Path, slope: float, lowest: float, highest: float) -> None:
    Series(slots=range(3), signed=True, slopes=[slope] * 3).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    ends = np.array(series.hu)
    ends[0, 0, :2] = lowest, highest
    files = write_derived_series(series, ends, tmp_path / "derived", derivation=derivation())
    stored = sorted(read(files[0]).pixel_array[0, :2].tolist())
    assert stored == [-32768, 32767]

    for wrong in (lowest - 1, highest + 1):
        ends = np.array(series.hu)
        ends[0, 0, 0] = wrong
        with pytest.raises(ImageRefusal) as caught:
            write_derived_series(series, ends, tmp_path / "other", derivation=derivation())
        step = abs(slope)
        assert caught.value.came == (
            f"{ends[0].min():g} to {ends[0].max():g} HU for a slice derived from {series.files[0]}"
        )
        assert caught.value.allowed == (f"{lowest + step:g} to {highest - step:g} HU, what its stored type can hold")
        assert caught.value.cure == "limit the values first"
