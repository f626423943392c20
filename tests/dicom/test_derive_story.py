"""How, from what, by whom: what a derived image tells about its making."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from dicom.derived import DIGEST, MOMENT, derivation, derive, item, items, read, valid, write_source
from dicom.synthetic import Series, setting
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from iscl_monai import __version__
from iscl_monai.dicom.derivation import (
    DISCLAIMER,
    MEAN,
    NOISE_INSERTION,
    NOISE_REDUCTION,
    OUR_CODES,
    PROCESSING_EQUIPMENT,
    SOURCE_IMAGE,
    SUBTRACTION,
    Code,
)
from iscl_monai.dicom.derive import moment_of
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter


def test_the_story_is_told_wherever_a_viewer_may_look(tmp_path: Path) -> None:
    derived = derive(write_source(tmp_path))
    for words in (DISCLAIMER, "ISCL 1.2", DIGEST, "mode ensemble", "strength 0.7", __version__, "neural network"):
        assert words in derived.DerivationDescription
    assert derived.ImageComments == DISCLAIMER
    assert DISCLAIMER in derived.ContributingEquipmentSequence[-1].ContributionDescription
    assert "BurnedInAnnotation" not in derived  # nobody has looked
    assert derived.RescaleType == "HU"  # an image that is not ORIGINAL has to say so


def test_what_was_told_before_stays(tmp_path: Path) -> None:
    smoothing = item(CodeValue="113087", CodingSchemeDesignator="DCM", CodeMeaning="Smoothing")
    before = setting(
        DerivationDescription="reconstructed",
        ImageComments="moved",
        BurnedInAnnotation="YES",
        DerivationCodeSequence=[smoothing],
    )
    derived = derive(write_source(tmp_path, before))
    assert derived.DerivationDescription.startswith("reconstructed; AI-processed")
    assert derived.ImageComments == f"{DISCLAIMER}\r\nmoved"
    assert derived.BurnedInAnnotation == "YES"
    assert [code.CodeValue for code in derived.DerivationCodeSequence] == ["113087", "NOISERED"]
    crowded = derive(write_source(tmp_path / "long", setting(DerivationDescription="x" * 1024)))
    assert len(crowded.DerivationDescription) == 1024
    assert crowded.DerivationDescription.endswith(derivation().full_description())


def test_the_story_fits_every_character_set() -> None:
    story = derivation(model="M\xfcller\\1", parameters={"\u5c71": "x" * 3000}).full_description()
    assert story.isascii()
    assert "\\" not in story


def test_one_source_of_the_same_place_with_its_purpose(tmp_path: Path) -> None:
    stale = setting(
        SourceImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")],
        ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.3")],
    )
    path = write_source(tmp_path, stale)
    source, derived = read(path), derive(path)
    (named,) = derived.SourceImageSequence
    (series,) = derived.ReferencedSeriesSequence
    (instance,) = series.ReferencedInstanceSequence
    (purpose,) = named.PurposeOfReferenceCodeSequence
    assert purpose.CodeValue == "121322"
    assert named.SpatialLocationsPreserved == "YES"
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    for reference in (named, instance):
        assert reference.ReferencedSOPClassUID == source.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_uids_from_the_file_meta_group_are_named_when_those_of_the_data_set_are_blank(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(SOPInstanceUID="", SOPClassUID="", SeriesInstanceUID=""))
    meta, derived = read(path).file_meta, derive(path)
    assert derived.SOPClassUID == meta.MediaStorageSOPClassUID
    assert derived.SourceImageSequence[0].ReferencedSOPInstanceUID == meta.MediaStorageSOPInstanceUID
    assert "ReferencedSeriesSequence" not in derived  # a series that has no name cannot be pointed to


def test_what_the_source_was_made_of_is_not_taken_for_the_source(tmp_path: Path) -> None:
    stale = setting(SeriesInstanceUID="", ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.3")])
    assert "ReferencedSeriesSequence" not in derive(write_source(tmp_path, stale))


@pytest.mark.parametrize(
    ("slots", "preserved"),
    [((0,), ["YES"]), ((0, 1), ["NO", "NO"]), ((0, 1, 2), ["NO", "YES", "NO"]), ((0, 1, 5), ["NO", "NO", "NO"])],
)
def test_only_a_source_in_the_same_plane_shows_the_same_places(
    tmp_path: Path, slots: tuple[int, ...], preserved: list[str]
) -> None:
    paths = Series(slots=slots, rows=16, columns=16).write(tmp_path / "source")
    headers = [read_header(path) for path in paths]
    middle = (len(paths) - 1) // 2
    with without_warnings():
        source, dataset = load_slice(headers[middle])
        writer = SeriesWriter([headers[middle]], derivation(), tmp_path, sources=[headers])
        derived = read(writer.write(0, dataset, source.stored))
    named = [(one.ReferencedSOPInstanceUID, one.SpatialLocationsPreserved) for one in derived.SourceImageSequence]
    assert named == list(zip([header.sop_instance_uid for header in headers], preserved, strict=True))
    (series,) = derived.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == [uid for uid, _ in named]


def test_sources_that_share_one_uid_are_listed_once(tmp_path: Path) -> None:
    paths = Series(slots=range(3), rows=16, columns=16, change=setting(SOPInstanceUID="1.2.3")).write(tmp_path / "in")
    headers = [read_header(path) for path in paths]
    with without_warnings():
        source, dataset = load_slice(headers[1])
        written = SeriesWriter([headers[1]], derivation(), tmp_path, sources=[headers]).write(0, dataset, source.stored)
    (series,) = read(written).ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == ["1.2.3"]


def test_credit_is_appended_and_the_scanner_stays_the_manufacturer(tmp_path: Path) -> None:
    earlier = item(Manufacturer="Gateway", ContributionDescription="anonymised")
    path = write_source(tmp_path, setting(ContributingEquipmentSequence=[earlier]))
    source, derived = read(path), derive(path)
    first, ours = derived.ContributingEquipmentSequence
    assert first == earlier
    assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert ours.Manufacturer == "iscl_monai contributors"
    assert "ISCL" in ours.ManufacturerModelName
    assert list(ours.SoftwareVersions) == [__version__, "ISCL 1.2", f"weights sha256 {DIGEST[:40]}"]
    assert valid(ours.DeviceUID)
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        assert derived[keyword] == source[keyword]
    # Other weights are another device; another setting is not.
    devices = [{"weights_digest": "f" * 64}, {"parameters": {}}]
    others = [derive(path, **one).ContributingEquipmentSequence[-1].DeviceUID for one in devices]
    assert [other == ours.DeviceUID for other in others] == [False, True]


def check_codes(dataset: Dataset, meanings: Mapping[tuple[str, str], str]) -> int:
    """Each code of DICOM's own scheme means what DICOM says, any other scheme is declared; how many there are."""
    declared = {scheme.CodingSchemeDesignator for scheme in dataset.get("CodingSchemeIdentificationSequence", ())}
    coded = [one for one in items(dataset) if "CodeValue" in one]
    for one in coded:
        if one.CodingSchemeDesignator == "DCM":
            assert meanings[one.CodeValue, "DCM"] == one.CodeMeaning
        else:
            assert one.CodingSchemeDesignator in declared
    return len(coded)


def test_codes_mean_what_the_standard_says(tmp_path: Path) -> None:
    dcm = {(code.value, "DCM"): code.meaning for code in (getattr(codes.DCM, name) for name in codes.DCM.dir())}
    assert check_codes(derive(write_source(tmp_path)), dcm) == 3
    assert SOURCE_IMAGE.value in {code.value for code in codes.cid7202.concepts.values()}
    assert PROCESSING_EQUIPMENT.value in {code.value for code in codes.cid7005.concepts.values()}
    # The group of derivations has no word for it, so the code is ours and is declared; some day it may have one.
    assert not [code for code in codes.cid7203.concepts.values() if "noise" in code.meaning.lower()]
    assert NOISE_REDUCTION.scheme == NOISE_INSERTION.scheme == OUR_CODES
    for code in (MEAN, SUBTRACTION):
        assert dcm[code.value, code.scheme] == code.meaning
        assert code.value in {one.value for one in codes.cid7203.concepts.values()}
    steps = derive(write_source(tmp_path / "steps"), operations=(MEAN, NOISE_INSERTION))
    assert check_codes(steps, dcm) == 4
    wrong = derive(write_source(tmp_path / "wrong"), operations=(Code("113072", "DCM", "Noise reduction"),))
    with pytest.raises(AssertionError):
        check_codes(wrong, dcm)


def test_a_scheme_is_declared_once(tmp_path: Path) -> None:
    known = item(CodingSchemeDesignator="99ACME"), item(CodingSchemeDesignator=OUR_CODES)
    derived = derive(write_source(tmp_path, setting(CodingSchemeIdentificationSequence=list(known))))
    found = [scheme.CodingSchemeDesignator for scheme in derived.CodingSchemeIdentificationSequence]
    assert found == ["99ACME", OUR_CODES]


def test_the_moment_of_the_job_is_read_back_from_the_last_equipment(tmp_path: Path) -> None:
    earlier = item(ContributionDateTime="20200102030405+0100")
    derived = derive(write_source(tmp_path, setting(ContributingEquipmentSequence=[earlier])))
    assert moment_of(derived) == MOMENT
    assert moment_of(derived).utcoffset() == MOMENT.utcoffset()


@pytest.mark.parametrize("equipment", [None, [], [item(Manufacturer="other")], [item(ContributionDateTime="2020")]])
def test_what_is_not_ours_has_no_moment(equipment: list[Dataset] | None) -> None:
    dataset = Dataset() if equipment is None else item(ContributingEquipmentSequence=equipment)
    with pytest.raises(ValueError, match="does not match"):
        moment_of(dataset)
