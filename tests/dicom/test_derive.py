"""Who and when: the identity of a derived image, its names and its one moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from dicom.derived import MOMENT, derivation, derive, read, valid, write_source
from dicom.synthetic import Series, setting
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from iscl_monai import __version__
from iscl_monai.dicom.derivation import study_uid
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import SeriesWriter, write_derived_series
from iscl_monai.errors import ConfigRefusal

# --- identity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "derived"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL", "DENOISED"]),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], ["DERIVED", "SECONDARY", "AXIAL", "DENOISED"]),
        (["DERIVED", "SECONDARY", "MPR"], ["DERIVED", "SECONDARY", "MPR", "DENOISED"]),
        (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "AXIAL", "DENOISED"]),
        (None, ["DERIVED", "SECONDARY", "AXIAL", "DENOISED"]),
    ],
)
def test_image_type_is_never_left_original(tmp_path: Path, found: list[str] | None, derived: list[str]) -> None:
    assert derive(write_source(tmp_path, setting(ImageType=found))).ImageType == derived


def test_same_study_new_series_and_instance(tmp_path: Path) -> None:
    path = write_source(tmp_path)
    source, derived = read(path), derive(path)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert derived[keyword] == source[keyword]
    assert derived.SOPClassUID == source.SOPClassUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert derived.SOPInstanceUID != source.SOPInstanceUID


@pytest.mark.parametrize("study", ["1.2.7", ""])
def test_every_uid_follows_from_its_role_and_what_it_names(tmp_path: Path, study: str) -> None:
    """A program that meets the same source and work finds the same objects; other roles have other UIDs."""
    path = write_source(tmp_path, setting(StudyInstanceUID=study))
    source, derived, work = read_header(path), derive(path), derivation()
    place = f"{source.sop_instance_uid}|{source.position}"
    assert derived.SOPInstanceUID == work.uid("instance", place)
    assert derived.SeriesInstanceUID == work.uid("series", source.series_uid)
    assert derived.StudyInstanceUID == (study or study_uid(source.series_uid))


@settings(deadline=None)
@given(role=st.text(), source=st.text(), digest=st.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_uids_are_valid_whatever_they_are_made_of(role: str, source: str, digest: str) -> None:
    assert valid(derivation(weights_digest=digest).uid(role, source))


def test_file_meta_tells_the_same_and_inherits_nothing(tmp_path: Path) -> None:
    path = write_source(tmp_path, rle=True)
    source = read(path)
    source.file_meta.SourceApplicationEntityTitle = "SCANNER"
    source.file_meta.PrivateInformationCreatorUID = "1.2.3"
    source.file_meta.PrivateInformation = b"secret"
    source.save_as(path)
    derived = derive(path)
    meta = derived.file_meta
    assert meta.MediaStorageSOPClassUID == derived.SOPClassUID
    assert meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert valid(meta.ImplementationClassUID)
    assert meta.ImplementationVersionName == f"ISCL_{__version__}"
    for keyword in ("SourceApplicationEntityTitle", "PrivateInformationCreatorUID", "PrivateInformation"):
        assert keyword not in meta


@pytest.mark.parametrize(
    "other",
    [
        {"weights_digest": "f" * 64},
        {"version": "1.3"},
        {"model": "Other"},
        {"kind": "RESIDUAL"},
        {"parameters": {"mode": "ensemble", "strength": "0.8"}},
        {"parameters": {"mode": "ensemble"}},
    ],
)
def test_other_work_gives_other_uids_and_the_same_work_the_same(tmp_path: Path, other: dict[str, object]) -> None:
    path = write_source(tmp_path)
    first, again = derive(path), derive(path, moment=MOMENT + timedelta(days=3))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID
    changed = derive(path, **other)
    assert first.SOPInstanceUID != changed.SOPInstanceUID
    assert first.SeriesInstanceUID != changed.SeriesInstanceUID


def test_settings_in_another_order_are_the_same_settings() -> None:
    parameters = {"mode": "ensemble", "strength": "0.7"}
    turned = dict(reversed(parameters.items()))
    assert derivation(parameters=parameters).uid("a", "b") == derivation(parameters=turned).uid("a", "b")


@pytest.mark.parametrize("blank", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_every_slice_has_a_uid_of_its_own_even_after_a_careless_de_identifier(tmp_path: Path, blank: str) -> None:
    same = setting(**{blank: "1.2.3" if blank == "SOPInstanceUID" else ""})
    Series(rows=16, columns=16, change=same).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    files = write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    derived = [read(file) for file in files]
    assert len({dataset.SOPInstanceUID for dataset in derived}) == 5
    assert len({dataset.SeriesInstanceUID for dataset in derived}) == 1
    assert len({dataset.StudyInstanceUID for dataset in derived}) == 1
    for dataset in derived:
        assert all(map(valid, (dataset.SOPInstanceUID, dataset.SeriesInstanceUID)))
        assert dataset.StudyInstanceUID


def test_a_series_without_uid_has_one_identity_in_any_order(tmp_path: Path) -> None:
    files = Series(rows=16, columns=16, change=setting(SeriesInstanceUID="")).write(tmp_path / "source")
    headers = [read_header(file) for file in files]
    forward, backward = (SeriesWriter(some, derivation(), tmp_path) for some in (headers, headers[::-1]))
    assert forward.series_identity == backward.series_identity


@pytest.mark.parametrize(
    ("found", "number"),
    [(2, 277), (0, 77), (None, 77), ("", 77), (-3, -223), (30026, 3002677), (21474836, 77), (2**31 - 1, 77)],
)
def test_series_number_follows_from_that_of_the_source(tmp_path: Path, found: int | str | None, number: int) -> None:
    assert derive(write_source(tmp_path, setting(SeriesNumber=found))).SeriesNumber == number


@pytest.mark.parametrize(
    ("found", "described"),
    [
        ("CHEST", "CHEST | AI DENOISED ISCL"),
        ("", "CT | AI DENOISED ISCL"),
        (None, "CT | AI DENOISED ISCL"),
        ("x" * 64, "x" * 45 + " | AI DENOISED ISCL"),
        ("x" * 44 + " y", "x" * 44 + " | AI DENOISED ISCL"),
        ("Sch\xe4del", "Sch\xe4del | AI DENOISED ISCL"),
    ],
)
def test_series_description_fits(tmp_path: Path, found: str | None, described: str) -> None:
    derived = derive(write_source(tmp_path, setting(SeriesDescription=found)))
    assert derived.SeriesDescription == described
    assert len(described) <= 64


def test_a_series_description_of_several_values(tmp_path: Path) -> None:
    assert (
        derive(write_source(tmp_path, setting(SeriesDescription=["A", "B"]))).SeriesDescription
        == "A | AI DENOISED ISCL"
    )


# --- when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "date", "time"),
    [(None, "20261122", "203005"), ("-0500", "20261122", "153005"), ("+0530", "20261123", "020005")],
)
def test_one_moment_for_the_job_in_the_time_zone_of_the_source(
    tmp_path: Path, offset: str | None, date: str, time: str
) -> None:
    zone = setting(TimezoneOffsetFromUTC=offset) if offset else setting()
    path = write_source(tmp_path, zone)
    source, derived = read(path), derive(path)
    for name in ("Series", "Content", "InstanceCreation"):
        assert (derived[f"{name}Date"].value, derived[f"{name}Time"].value) == (date, time)
    for keyword in ("StudyDate", "StudyTime", "AcquisitionDate", "AcquisitionTime"):
        assert derived[keyword] == source[keyword]
    assert derived.get("TimezoneOffsetFromUTC") == offset
    assert derived.ContributingEquipmentSequence[-1].ContributionDateTime == "20261122203005+0000"


def test_an_impossible_time_zone_is_no_fault_of_ours(tmp_path: Path) -> None:
    assert derive(write_source(tmp_path, setting(TimezoneOffsetFromUTC="+9999"))).SeriesDate == "20261122"


WRONG = [{"kind": "denoised"}, {"kind": ""}, {"kind": "X" * 17}, {"title": "x" * 33}, {"moment": datetime(2026, 1, 1)}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_derivation_that_cannot_be_written_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigRefusal, match="do:"):
        derivation(**wrong)
