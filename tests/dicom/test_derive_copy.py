"""What a derived image takes over from its source, unchanged, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom.derived import LEFT_OUT, derive, item, read, write_source
from dicom.synthetic import Change, setting
from pydicom.dataset import Dataset, FileDataset
from real_data import real

from iscl_monai.errors import DicomRefusal

NEW = {  # what every derived image has from us
    "BurnedInAnnotation",
    "CodingSchemeIdentificationSequence",
    "ContentDate",
    "ContentTime",
    "ContributingEquipmentSequence",
    "DerivationCodeSequence",
    "DerivationDescription",
    "ImageComments",
    "ImageType",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "PixelData",
    "ReferencedSeriesSequence",
    "RescaleType",
    "SOPInstanceUID",
    "SeriesDate",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesTime",
    "SourceImageSequence",
}


@pytest.mark.parametrize(
    "name",
    [
        "qa/ge_head_tilt/ge_head_tilt/01.dcm",
        "qa/philips_phantom_mixed_folder/philips_mixed/S21570/S2010/I10",
        "test/totalsegmentator_abdomen/CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016573",
        "test/covid19_ny_sbu_6_patients/A046441/axial/19010101-23.dcm",  # Toshiba
        "test/covid19_ny_sbu_6_patients/A002304/axial/19001231-076.dcm",
        "train/4dlung_113/1.000000-P4P113S303I10349 Gated 40.0B-29543/1-04.dcm",
        "train/lidc_idri_0314/data/000022.dcm",
        "robust/robust_pydicom/bad_sequence.dcm",
        "robust/robust_transfer_syntaxes/CTImage.dcm",
    ],
)
def test_every_other_element_of_a_real_scan_is_copied(name: str, tmp_path: Path) -> None:
    top = "/".join(name.split("/")[:2])
    path = tmp_path / "source" / "slice"
    path.parent.mkdir()
    path.write_bytes(real(top).joinpath(*name.split("/")[2:]).read_bytes())
    source, derived = read(path), derive(path)
    assert not [element.tag for element in derived.iterall() if element.tag.is_private]
    assert {element.keyword for element in derived if element.tag not in source} <= NEW
    source.remove_private_tags()
    for element in source:
        if element.tag.element == 0 or element.keyword in LEFT_OUT:
            assert element.tag not in derived
        elif element.keyword not in NEW and not element.is_empty:
            assert derived[element.tag] == element


# --- text --------------------------------------------------------------------------------------------

NAMES = [
    ("ISO_IR 100", "M\xfcller^J\xfcrgen"),
    ("ISO_IR 101", "W\xe1clav"),
    ("ISO_IR 144", "\u041b\u044e\u043a\u0441"),
    ("ISO_IR 192", "M\xfcller=\u738b^\u5c0f\u4e1c"),
    ("GB18030", "Wang^XiaoDong=\u738b^\u5c0f\u4e1c"),
    ("GBK", "Wang=\u738b\u4e57"),  # the second byte of its last character is a backslash
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "\uff94\uff8f\uff80\uff9e^\uff80\uff9b\uff73=\u5c71\u7530^\u592a\u90ce"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9"),
]


@pytest.mark.parametrize(("character_set", "name"), NAMES)
def test_names_in_any_script_keep_their_bytes(tmp_path: Path, character_set: str | list[str], name: str) -> None:
    words = name.split("=")[-1].split("^")[0]
    text = setting(SpecificCharacterSet=character_set, PatientName=name, InstitutionName=words, SeriesDescription=words)
    path = write_source(tmp_path, text)
    source, derived = read(path), derive(path)
    assert derived.SpecificCharacterSet == source.SpecificCharacterSet
    assert derived.PatientName == source.PatientName == name
    assert derived.InstitutionName == words
    assert derived.SeriesDescription == f"{words} | AI DENOISED ISCL"
    raw = source.PatientName.original_string
    assert raw == derived.PatientName.original_string
    assert raw in (path.parent.parent / "derived" / "00001.dcm").read_bytes()


def replacing(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a file; ``old`` must be there once."""
    raw = path.read_bytes()
    assert raw.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(raw.replace(old, new))


def test_a_name_in_no_declared_character_set_keeps_its_bytes(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(SpecificCharacterSet=None, PatientName="Mxller"))
    replacing(path, b"Mxller", b"M\xfcller")
    derive(path)
    assert b"M\xfcller" in (tmp_path / "derived" / "00001.dcm").read_bytes()


def test_a_name_that_its_character_set_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(SpecificCharacterSet="ISO_IR 192", PatientName="Mxller"))
    replacing(path, b"Mxller", b"M\xfcller")
    with pytest.raises(DicomRefusal, match="0010,0010"):
        derive(path)


def test_one_of_several_names_that_their_character_set_cannot_hold(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(SpecificCharacterSet="ISO_IR 192", OtherPatientNames=["One", "Mxller"]))
    replacing(path, b"Mxller", b"M\xfcller")
    with pytest.raises(DicomRefusal, match="0010,1001"):
        derive(path)


def test_half_width_kana_beside_latin_letters(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(SpecificCharacterSet="ISO_IR 13", SeriesDescription="\uff91\uff88"))
    assert derive(path).SeriesDescription == "AI DENOISED ISCL"  # pydicom cannot write the two beside each other


def test_an_element_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for level, change in [("top", setting(InstitutionName="wrong")), ("item", nested(item(InstitutionName="wrong")))]:
        path = write_source(tmp_path / level, change)
        replacing(path, b"\x08\x00\x80\x00LO\x06\x00wrong ", b"\x08\x00\x80\x00FD\x06\x00wrong ")
        with pytest.raises(DicomRefusal) as caught:
            derive(path)
        assert "0008,0080" in str(caught.value)
        assert caught.value.file == str(path)


def nested(one: Dataset) -> Change:
    return setting(RequestAttributesSequence=[one])


def test_a_private_element_that_is_dropped_may_be_damaged(tmp_path: Path) -> None:
    path = write_source(
        tmp_path, setting(SpecificCharacterSet="ISO_IR 192"), lambda dataset, _: private(dataset, "ACME", "Mxller")
    )
    replacing(path, b"LO\x06\0Mxller", b"FD\x06\0Mxller")
    assert left(derive(path)) == []
    with pytest.raises(DicomRefusal, match="0029,1010"):
        derive(path, keep_private=("ACME",))


# --- private elements --------------------------------------------------------------------------------


def private(dataset: Dataset, creator: str, value: str, group: int = 0x0029) -> None:
    dataset.private_block(group, creator, create=True).add_new(0x10, "LO", value)


def add_private(dataset: FileDataset, index: int) -> None:
    inner, outer = item(CodeMeaning="public"), item(ReferencedSOPInstanceUID="1.2.3")
    private(inner, "SIEMENS", "deep")
    private(inner, "ACME", "deep")
    outer.PurposeOfReferenceCodeSequence = [inner]
    private(outer, "SIEMENS", "middle")
    dataset.ReferencedStudySequence = [outer]
    private(dataset, "SIEMENS", "top")
    private(dataset, "ACME", "top")
    private(dataset, "ACME", "another group", group=0x0053)
    dataset.add_new(0x00291234, "LO", "nobody's")  # no creator reserves its block


def left(dataset: Dataset) -> list[str]:
    return sorted(str(element.value) for element in dataset.iterall() if element.tag.is_private)


def test_private_elements_are_dropped_at_all_levels(tmp_path: Path) -> None:
    path = write_source(tmp_path, add_private)
    assert len(left(read(path))) == 13
    derived = derive(path)
    assert left(derived) == []
    (outer,) = derived.ReferencedStudySequence
    assert outer.ReferencedSOPInstanceUID == "1.2.3"
    assert outer.PurposeOfReferenceCodeSequence[0].CodeMeaning == "public"


def test_those_of_an_allowed_creator_are_kept_at_all_levels(tmp_path: Path) -> None:
    path = write_source(tmp_path, add_private)
    assert left(derive(path, keep_private=("ACME",))) == ["ACME", "ACME", "ACME", "another group", "deep", "top"]
    assert left(derive(path, keep_private=("SIEMENS",))) == ["SIEMENS"] * 3 + ["deep", "middle", "top"]
    assert left(derive(path, keep_private=("Nobody",))) == []
    assert len(left(derive(path, keep_private=("ACME", "SIEMENS")))) == 12
