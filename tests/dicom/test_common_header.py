"""What slices have in common is derived once, and every file is what it would be if its slice were the only one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom.derived import derivation, item
from dicom.scanners import SCANNERS
from dicom.synthetic import Change, Series, setting
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ImplicitVRLittleEndian

from iscl_monai.dicom import common_header
from iscl_monai.dicom import write as writing
from iscl_monai.dicom.derive import RULES_LOOK_AT, SAME_IN_SERIES
from iscl_monai.dicom.encoded import NotSplittableError, encode, split
from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.errors import DicomRefusal, OutputRefusal

CODE = item(CodeValue="1", CodingSchemeDesignator="99X", CodeMeaning="Something")
RICH = setting(
    SpecificCharacterSet="ISO_IR 100",
    StudyDate="20200102",
    ContentDate="20200102",
    ContentTime="101115",
    PatientName="Müller^Jörg",
    SeriesNumber=3,
    XRayTubeCurrent=30,
    WindowCenter=[40, 600],
    DerivationDescription="made so",
    DerivationCodeSequence=[CODE],
    ImageComments="earlier",
    ReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2.3", PatientName="Ö")],
    CodingSchemeIdentificationSequence=[item(CodingSchemeDesignator="99X")],
    PixelPaddingValue=0,
)


def private(creator: str, value: str) -> Change:
    def change(dataset: FileDataset, index: int) -> None:
        dataset.private_block(0x0009, creator, create=True).add_new(1, "LO", value)

    return change


def raw(tag: int, vr: str, value: bytes) -> Change:
    """An element as these bytes, whatever they mean."""

    def change(dataset: FileDataset, index: int) -> None:
        dataset[tag] = DataElement(tag, "UN", value)
        dataset[tag].VR = vr

    return change


def undefined(dataset: FileDataset, index: int) -> None:
    dataset["ReferencedStudySequence"].is_undefined_length = True


def overlay(dataset: FileDataset, index: int) -> None:
    dataset.add_new(0x60000010, "US", 16)
    dataset.add_new(0x60003000, "OW", b"\1\0")


ALIKE: dict[str, Change] = {  # of the second slice; what differs is derived by itself
    "nothing": lambda dataset, index: None,
    "position": setting(SliceLocation=5.5),
    "text": setting(InstitutionName="Spital Zürich", AcquisitionTime="101116"),
    "of the series": setting(ContentTime="120000", RescaleType="US", SeriesDate="20200103"),
    "absent": setting(XRayTubeCurrent=None, ContentTime=None, StudyDate=None),
    "several values": setting(WindowCenter=[50, 700]),
    "forgotten": setting(ReferencedImageSequence=[CODE], SmallestImagePixelValue=3, SOPInstanceStatus="AO"),
    "sequence": setting(ReferencedStudySequence=[item(PatientName="É", CTDIvol=3)]),
    "sequence of unknown length": undefined,
    "overlay": overlay,
    "other series": setting(ReferencedSeriesSequence=[item(SeriesInstanceUID="1.9")]),
    "bytes that are no text": raw(0x00080080, "LO", b"\xff\xfe"),
    "flavour": setting(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5"]),
    "private value": private("MINE", "another"),
}
APART: dict[str, Change] = {  # here rules may decide otherwise, so that the slice is derived as a whole
    "letters": setting(SpecificCharacterSet="ISO_IR 101"),
    "earlier step": setting(DerivationDescription="made otherwise", DerivationCodeSequence=[CODE, CODE]),
    "comments": setting(ImageComments="later"),
    "padding": setting(PixelPaddingValue=5),
    "time zone": setting(TimezoneOffsetFromUTC="+0200"),
    "series number": setting(SeriesNumber=4),
    "description": setting(SeriesDescription="other"),
    "study": setting(StudyInstanceUID=None),
    "flavour": setting(ImageType=["ORIGINAL", "PRIMARY", "OTHER"]),
    "scheme": setting(CodingSchemeIdentificationSequence=[item(CodingSchemeDesignator="99ISCL")]),
    "equipment": setting(ContributingEquipmentSequence=[item(Manufacturer="X")]),
    "creator": private("YOURS", "value"),
    "word": setting(LossyImageCompression="00"),
}


@pytest.fixture
def derived_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Sources of the slices for which all rules were followed."""
    paths, derive = [], writing.derive_header

    def noted(dataset: Dataset, header: SliceHeader, *given: Any, **named: Any) -> Dataset:
        paths.append(header.path)
        return derive(dataset, header, *given, **named)

    monkeypatch.setattr(writing, "derive_header", noted)
    return paths


def write(headers: list[SliceHeader], folder: Path, *, each_alone: bool, **other: Any) -> list[bytes]:
    """The files of a derived series."""
    folder.mkdir()
    written = []
    writer = SeriesWriter(headers, derivation(**other), folder)
    for index, header in enumerate(headers):
        with without_warnings():
            if each_alone:
                writer = SeriesWriter(headers, derivation(**other), folder)
            source, dataset = load_slice(header)
            written.append(writer.write(index, dataset, source.stored).read_bytes())
    return written


def series(folder: Path, change: Change, syntax: str | None = None) -> list[SliceHeader]:
    """Three slices, the second of which is changed."""

    def changed(dataset: FileDataset, index: int) -> None:
        RICH(dataset, index)
        private("MINE", "value")(dataset, index)
        dataset.InstanceNumber, dataset.AcquisitionTime = index + 1, f"10111{index}"
        if index == 1:
            change(dataset, index)
        if syntax:
            dataset.file_meta.TransferSyntaxUID = syntax

    files = Series(slots=range(3), rows=16, columns=16, change=changed).write(folder)
    return [read_header(file) for file in files]


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", ALIKE)
def test_what_differs_alone_is_derived(
    tmp_path: Path, derived_as_a_whole: list[Path], name: str, syntax: str | None
) -> None:
    headers = series(tmp_path / "source", ALIKE[name], syntax)
    together = write(headers, tmp_path / "together", each_alone=False)
    assert derived_as_a_whole == [headers[0].path]
    assert together == write(headers, tmp_path / "alone", each_alone=True)
    assert len(derived_as_a_whole) == 4


@pytest.mark.parametrize("name", APART)
def test_a_slice_whose_rules_may_differ_is_derived_as_a_whole(
    tmp_path: Path, derived_as_a_whole: list[Path], name: str
) -> None:
    headers = series(tmp_path / "source", APART[name])
    together = write(headers, tmp_path / "together", each_alone=False)
    assert headers[1].path in derived_as_a_whole
    assert together == write(headers, tmp_path / "alone", each_alone=True)


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (ALIKE["private value"], {"keep_private": ("MINE",)}),
        (setting(), {"keep_private": ("MINE",)}),
    ],
)
def test_private_elements_that_are_kept(tmp_path: Path, change: Change, other: dict[str, Any]) -> None:
    headers = series(tmp_path / "source", change)
    together = write(headers, tmp_path / "together", each_alone=False, **other)
    assert together == write(headers, tmp_path / "alone", each_alone=True, **other)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_slices_of_real_scanners(tmp_path: Path, derived_as_a_whole: list[Path], scanner: str) -> None:
    (tmp_path / "source").mkdir()
    SCANNERS[scanner](tmp_path / "source")
    headers = [read_header(path) for path in sorted((tmp_path / "source").iterdir())][:3]
    together = write(headers, tmp_path / "together", each_alone=False)
    assert len(derived_as_a_whole) == 1
    assert together == write(headers, tmp_path / "alone", each_alone=True)


@pytest.mark.parametrize("each_alone", [False, True])
def test_a_name_that_cannot_be_read_is_refused_in_any_slice(tmp_path: Path, each_alone: bool) -> None:
    headers = series(tmp_path / "source", setting(PatientBirthName="Meier"))
    for header in headers:
        content = header.path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192")
        content = content.replace(b"M\xfcller^J\xf6rg", b"Muller^Jorg").replace(b"\xd6", b"O")
        header.path.write_bytes(content.replace(b"Meier", b"M\xff\xfeer"))
    headers = [read_header(header.path) for header in headers]
    with pytest.raises(DicomRefusal, match=r"slice001: element \(0010,1005\) is not readable"):
        write(headers, tmp_path / "derived", each_alone=each_alone)


def test_what_is_encoded_as_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = series(tmp_path / "source", setting(InstitutionName="Here"))
    monkeypatch.setattr(writing, "encode", lambda dataset: encode(dataset).replace(b"Here", b"Hare"))
    with pytest.raises(OutputRefusal, match=r"another \(0008,0080\) InstitutionName"):
        write(headers, tmp_path / "derived", each_alone=False)


@pytest.mark.parametrize(("old", "new", "name"), [(b"Spital", b"Hospit", "InstitutionName"), (b"M\xfc", b"Ma", "Name")])
def test_what_the_disk_changes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes, name: str
) -> None:
    """Also in an element that has been read back in the file of another slice."""
    write_file, count = writing.write_file, iter(range(3))

    def changing(path: Path, store: Any) -> None:
        write_file(path, store)
        if next(count) == 1:
            path.write_bytes(path.read_bytes().replace(old, new))

    headers = series(tmp_path / "source", ALIKE["text"])
    monkeypatch.setattr(writing, "write_file", changing)
    with pytest.raises(OutputRefusal, match=rf"00002.dcm reads back with another .*{name}"):
        write(headers, tmp_path / "derived", each_alone=False)


def test_one_pixel_that_the_disk_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file = writing.write_file

    def changing(path: Path, store: Any) -> None:
        write_file(path, store)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    headers = series(tmp_path / "source", setting())
    monkeypatch.setattr(writing, "write_file", changing)
    with pytest.raises(OutputRefusal, match="PixelData"):
        write(headers, tmp_path / "derived", each_alone=False)


def test_what_the_rules_look_at_and_write_are_keywords() -> None:
    assert len(common_header.LOOKED_AT) == len(RULES_LOOK_AT)
    assert len(common_header.RULES_WRITE) == len(SAME_IN_SERIES)


def test_a_file_is_its_elements(tmp_path: Path) -> None:
    headers = series(tmp_path / "source", undefined)
    for header in headers:
        content = header.path.read_bytes()
        head, elements = split(content)
        assert head + b"".join(elements.values()) == content
        assert list(elements) == sorted(elements)
        assert 0x00081110 in elements


@pytest.mark.parametrize("cut", [1, 7, 300])
def test_half_a_file_cannot_be_taken_apart(tmp_path: Path, cut: int) -> None:
    content = series(tmp_path / "source", setting())[0].path.read_bytes()
    with pytest.raises(NotSplittableError):
        split(content[:-cut])


def test_a_file_that_changed_since_it_was_found_is_still_refused(tmp_path: Path) -> None:
    header = series(tmp_path / "source", setting())[0]
    content = header.path.read_bytes()
    header.path.write_bytes(content.replace(b"Model ", b"Modal "))
    with pytest.raises(DicomRefusal, match="another one than when the folder was searched"):
        load_slice(header)
