"""One rule for derived headers: what each makes of a source, denoised and simulated side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.derived import DIGEST, FULL, MOMENT, both, derivation, item, read, valid
from dicom.synthetic import setting
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian
from test_dose_series import SIGNED, painting, source

from data_prep.dose.header import AVERAGED, SIMULATED
from data_prep.dose.series import simulate_series
from iscl_monai.dicom.derivation import DISCLAIMER, MEAN, NOISE_INSERTION, NOISE_REDUCTION, PROCESSING_EQUIPMENT
from iscl_monai.dicom.derive import IMPLEMENTATION_CLASS_UID
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.scanner.dose import SIMULATOR
from iscl_monai.version import __version__


@dataclass(frozen=True)
class Made:
    """One source slice, and what was derived from it."""

    source: FileDataset
    denoised: FileDataset
    simulated: FileDataset


Expected = Callable[[FileDataset], Any]
"""From the source to what an element of the derived data set must be."""

GONE = object()
GATEWAY, US, WHEN = ("Gateway", [], None), "iscl_monai contributors", "20261122203005+0000"


def always(value: Any) -> Expected:
    return lambda source: value


def coded(*codes: str) -> Expected:
    """Codes behind those of the source."""
    return lambda source: ["113087", *codes]


def plain(value: Any) -> Any:
    return value


def values(codes: Any) -> list[str]:
    return [code.CodeValue for code in codes]


Look = Callable[[Any], Any]

# Element: the rule, how it is looked at, what a denoised image has, and what a simulated one has.
RULES: dict[str, tuple[str, Look, Expected, Expected]] = {
    "ImageType": (
        "derived, value 3 kept, value 4 says how",
        list,
        always(["DERIVED", "SECONDARY", "AXIAL", "DENOISED"]),
        always(["DERIVED", "SECONDARY", "AXIAL", "SIMULATED"]),
    ),
    "SeriesInstanceUID": ("new series", valid, always(True), always(True)),
    "SOPInstanceUID": ("new instance", valid, always(True), always(True)),
    "SeriesNumber": ("100 times the source's, and an offset", plain, always(377), always(379)),
    "SeriesDescription": (
        "source's, then the title",
        plain,
        always("synthetic | AI DENOISED ISCL"),
        always("synthetic | SIMULATED 0.25 DOSE"),
    ),
    **{
        f"{name}{part}": ("one moment for the job, in the source's time zone", plain, always(value), always(value))
        for name in ("Series", "Content", "InstanceCreation")
        for part, value in (("Date", "20261122"), ("Time", "153005"))
    },
    "DerivationCodeSequence": ("appended: what was done", values, coded("NOISERED"), coded("NOISEINS")),
    "DerivationDescription": (
        "behind what the source said: disclaimer, what was done, version",
        lambda text: [words in text for words in ("reconstructed; ", DIGEST, SIMULATOR, f"(iscl_monai {__version__})")],
        always([True, True, False, True]),
        always([True, False, True, True]),
    ),
    "SourceImageSequence": (
        "the source alone, its purpose, same place",
        lambda items: [(one.ReferencedSOPInstanceUID, one.SpatialLocationsPreserved) for one in items],
        lambda source: [(source.SOPInstanceUID, "YES")],
        lambda source: [(source.SOPInstanceUID, "YES")],
    ),
    "ReferencedSeriesSequence": (
        "the source series alone",
        lambda items: [(one.SeriesInstanceUID, len(one.ReferencedInstanceSequence)) for one in items],
        lambda source: [(source.SeriesInstanceUID, 1)],
        lambda source: [(source.SeriesInstanceUID, 1)],
    ),
    "ContributingEquipmentSequence": (
        "appended: purpose, software, when",
        lambda items: [
            (one.get("Manufacturer"), list(one.get("SoftwareVersions", [])), one.get("ContributionDateTime"))
            for one in items
        ],
        always([GATEWAY, (US, [__version__, "ISCL 1.2", f"weights sha256 {DIGEST[:40]}"], WHEN)]),
        always([GATEWAY, (US, [__version__, SIMULATOR], WHEN)]),
    ),
    "CodingSchemeIdentificationSequence": (
        "declares our codes",
        lambda items: [one.CodingSchemeDesignator for one in items],
        always(["99ISCL"]),
        always(["99ISCL"]),
    ),
    "ImageComments": (
        "disclaimer, then the source's",
        plain,
        always(f"{DISCLAIMER}\r\nmoved"),
        always(f"{SIMULATED}\r\nmoved"),
    ),
    "RescaleType": ("a derived image says that it holds HU", plain, always("HU"), always("HU")),
    "PixelPaddingValue": ("as the pixels are", lambda value: value, always(-2000), always(-2000)),
    "PixelData": ("new, native", len, always(64 * 64 * 2), always(64 * 64 * 2)),
    **{
        keyword: ("describes the source: left out", plain, always(GONE), always(GONE))
        for keyword in (
            "SmallestImagePixelValue",
            "LargestImagePixelValue",
            "IconImageSequence",
            "ReferencedImageSequence",
            "DigitalSignaturesSequence",
            "MACParametersSequence",
            "SOPInstanceStatus",
            "InstanceCreatorUID",
            "an overlay",
            "a private element",
        )
    },
}  # fmt: skip


def everything(dataset: FileDataset, index: int) -> None:
    """A source in which every rule has something to do."""
    painting(SIGNED)(dataset, index)
    both(FULL, setting(
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
        RescaleType=None,
        TimezoneOffsetFromUTC="-0500",
        DerivationDescription="reconstructed",
        DerivationCodeSequence=[item(CodeValue="113087", CodingSchemeDesignator="DCM", CodeMeaning="Smoothing")],
        SourceImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")],
        ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.3")],
        ContributingEquipmentSequence=[item(Manufacturer="Gateway")],
        ImageComments="moved",
        IconImageSequence=[item(Rows=1)],
        ReferencedImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")],
        DigitalSignaturesSequence=[item(MACIDNumber=1)],
        MACParametersSequence=[item(MACIDNumber=1)],
        SOPInstanceStatus="AO",
        InstanceCreatorUID="1.2.3",
    ))(dataset, index)  # fmt: skip
    dataset.add_new("SmallestImagePixelValue", "SS", -2000)
    dataset.add_new("LargestImagePixelValue", "SS", 90)
    dataset.add_new(0x60000010, "US", 64)
    dataset["PixelPaddingValue"].VR = "US"
    dataset["PixelPaddingValue"].value = 0x10000 - 2000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("rules")
    source(folder / "scan", slices=3, change=everything)
    simulate_series(folder / "scan", folder / "low", fraction=0.25, moment=MOMENT)
    simulated = read(folder / "low" / "00001.dcm")
    named = simulated.SourceImageSequence[0].ReferencedSOPInstanceUID
    (path,) = (path for path in (folder / "scan").iterdir() if read(path).SOPInstanceUID == named)
    (folder / "denoised").mkdir()
    with without_warnings():
        slice_, dataset = load_slice(read_header(path))
        denoised = SeriesWriter([read_header(path)], derivation(), folder / "denoised").write(
            0, dataset, slice_.stored + 3
        )
    return Made(read(path), read(denoised), simulated)


def elements(dataset: Dataset) -> dict[str, Any]:
    """By keyword, or by what they are."""
    kinds = {True: "a private element", False: "an overlay"}
    return {element.keyword or kinds[element.tag.is_private]: element for element in dataset}


@pytest.mark.parametrize("keyword", RULES)
def test_each_rule_holds_for_both_kinds(made: Made, keyword: str) -> None:
    rule, look, *expectations = RULES[keyword]
    for derived, expected in zip((made.denoised, made.simulated), expectations, strict=True):
        value = expected(made.source)
        found = elements(derived).get(keyword)
        assert (GONE if found is None else look(found.value)) == value, rule


def test_there_is_no_other_rule(made: Made) -> None:
    before = elements(made.source)
    for derived in (made.denoised, made.simulated):
        after = elements(derived)
        changed = {keyword for keyword in before | after if before.get(keyword) != after.get(keyword)}
        assert changed == {*RULES}


def test_both_kinds_have_the_same_file_meta_but_for_the_instance(made: Made) -> None:
    for derived in (made.denoised, made.simulated):
        meta = derived.file_meta
        assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert {element.keyword for element in made.denoised.file_meta} == {
        element.keyword for element in made.simulated.file_meta
    }


def test_the_device_is_another_one_for_each_kind(made: Made) -> None:
    uids = {one.ContributingEquipmentSequence[-1].DeviceUID for one in (made.denoised, made.simulated)}
    assert len(uids) == 2
    for derived in (made.denoised, made.simulated):
        (purpose,) = derived.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence
        assert purpose.CodeValue == PROCESSING_EQUIPMENT.value
        assert derived.DerivationCodeSequence[-1].CodeMeaning in (NOISE_REDUCTION.meaning, NOISE_INSERTION.meaning)


# --- averages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("average", "preserved"), [(2, ["NO", "NO"]), (3, ["NO", "YES", "NO"])])
def test_a_mean_names_all_its_sources_and_where_it_shows_the_same_places(
    tmp_path: Path, average: int, preserved: list[str]
) -> None:
    scan = source(tmp_path / "scan", slices=6)
    simulate_series(scan, tmp_path / "clean", fraction=1, average=average)
    simulate_series(scan, tmp_path / "low", fraction=0.25, average=average)
    by_place = {float(one.ImagePositionPatient[2]): one for one in map(read, scan.iterdir())}
    group = [by_place[place] for place in sorted(by_place)[:average]]
    for name, codes in (("clean", [MEAN]), ("low", [MEAN, NOISE_INSERTION])):
        derived = read(tmp_path / name / "00001.dcm")
        uids = [one.SOPInstanceUID for one in group]
        assert [one.ReferencedSOPInstanceUID for one in derived.SourceImageSequence] == uids
        assert [one.SpatialLocationsPreserved for one in derived.SourceImageSequence] == preserved
        (series,) = derived.ReferencedSeriesSequence
        assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == uids
        steps = [(one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning) for one in derived.DerivationCodeSequence]
        assert steps == [(code.value, code.scheme, code.meaning) for code in codes]
        place = np.mean([np.array(one.ImagePositionPatient, float) for one in group], axis=0)
        np.testing.assert_allclose(np.array(derived.ImagePositionPatient, float), place)
    clean = read(tmp_path / "clean" / "00001.dcm")
    assert list(clean.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "AVERAGED"]
    assert (clean.ImageComments, clean.SeriesDescription) == (AVERAGED, f"synthetic | MEAN OF {average} SLICES")
    assert "CodingSchemeIdentificationSequence" not in clean  # its code is DICOM's own


def test_a_pair_of_a_study_without_uid_stays_in_one_study(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", slices=4, elements={"StudyInstanceUID": ""})
    simulate_series(scan, tmp_path / "clean", fraction=1, average=2)
    simulate_series(scan, tmp_path / "low", fraction=0.25, average=2)
    clean, low = (read(tmp_path / name / "00001.dcm") for name in ("clean", "low"))
    assert clean.StudyInstanceUID == low.StudyInstanceUID != ""
    assert clean.SeriesInstanceUID != low.SeriesInstanceUID
