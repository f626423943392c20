"""What describes other pixels than the derived ones: dropped, mended, or kept for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom.derived import LEFT_OUT, derive, item, read, write_source
from dicom.synthetic import setting
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from iscl_monai.dicom.carry import carry_lossy_history
from iscl_monai.dicom.write import write_and_verify


def test_what_describes_the_old_pixels_is_dropped(tmp_path: Path) -> None:
    icon = item(Rows=1, Columns=1)
    stale = setting(
        IconImageSequence=[icon],
        ReferencedImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")],
        DigitalSignaturesSequence=[item(MACIDNumber=1)],
        MACParametersSequence=[item(MACIDNumber=1)],
        DataSetTrailingPadding=b"\0\0",
    )

    def layers(dataset: FileDataset, index: int) -> None:
        dataset.add_new(0x00280106, "US", 5)  # smallest and largest pixel value, also of the series
        dataset.add_new(0x00280107, "US", 500)
        dataset.add_new(0x00280108, "US", 5)
        dataset.add_new(0x00280109, "US", 500)
        dataset.add_new(0x50000005, "US", 2)  # a curve
        dataset.add_new(0x50003000, "OW", b"\0\0")
        dataset.add_new(0x60000010, "US", 16)  # an overlay, and another one
        dataset.add_new(0x60003000, "OW", b"\0\0")
        dataset.add_new(0x60023000, "OW", b"\0\0")
        dataset.add_new(0x00080000, "UL", 4)  # a group length

    path = write_source(tmp_path, stale, layers)
    derived = derive(path)
    gone = LEFT_OUT | {"SmallestPixelValueInSeries", "LargestPixelValueInSeries"}
    assert not gone & {element.keyword for element in derived}
    assert not [element.tag for element in derived if element.tag.group in range(0x5000, 0x6100)]
    assert 0x00080000 not in derived
    assert derived.CTDIvol == 4.5  # and nothing else


def test_lengths_of_groups_are_left_out_at_all_levels(tmp_path: Path) -> None:
    """Old archives have them in every item of a sequence; pydicom does not write them, so nothing would read back."""
    inner = item(CodeValue="113100", CodingSchemeDesignator="DCM", CodeMeaning="Basic")
    inner.add_new(0x00080000, "UL", 76)
    middle = item(PurposeOfReferenceCodeSequence=[inner])
    middle.add_new(0x00400000, "UL", 90)
    derived = derive(write_source(tmp_path, setting(DeidentificationMethodCodeSequence=[middle])))
    assert not [element.tag for element in derived.iterall() if element.tag.element == 0]
    assert derived.DeidentificationMethodCodeSequence[0].PurposeOfReferenceCodeSequence[0].CodeMeaning == "Basic"
    write_and_verify(derived, tmp_path / "out.dcm", source="the source")


@pytest.mark.parametrize("series_uid", ["1.2.3", None])
def test_series_that_the_source_referred_to_are_forgotten(tmp_path: Path, series_uid: str | None) -> None:
    """The derived slice refers to the source's series alone, or to none if that has no name."""
    stale = item(SeriesInstanceUID="1.9", ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID="1.9.1")])
    path = write_source(tmp_path, setting(ReferencedSeriesSequence=[stale], SeriesInstanceUID=series_uid))
    source, derived = read(path), derive(path)
    series = list(derived.get("ReferencedSeriesSequence") or [])
    assert [one.SeriesInstanceUID for one in series] == ([series_uid] if series_uid else [])
    instances = [instance for one in series for instance in one.ReferencedInstanceSequence]
    assert [one.ReferencedSOPInstanceUID for one in instances] == ([source.SOPInstanceUID] if series_uid else [])
    assert ("ReferencedSeriesSequence" in derived) == bool(series_uid)


def test_statements_about_the_source_instance_are_dropped(tmp_path: Path) -> None:
    stale = {"InstanceCreatorUID": "1.2.3", "SOPInstanceStatus": "AO", "SOPAuthorizationDateTime": "20200102"}
    derived = derive(write_source(tmp_path, setting(**stale)))  # another device, and nobody's authorized original
    assert not stale.keys() & {element.keyword for element in derived}


def test_words_of_a_big_endian_file_are_turned(tmp_path: Path) -> None:
    path = write_source(tmp_path)
    source = read(path)
    table = item(LUTDescriptor=[4, 0, 16])
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", np.arange(4, dtype=">u2").tobytes())
    source.VOILUTSequence = [table]
    source.PixelData = np.frombuffer(source.PixelData, "<u2").astype(">u2").tobytes()
    source.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(path, source, implicit_vr=False, little_endian=False, overwrite=True)
    assert derive(path).VOILUTSequence[0].LUTData == np.arange(4, dtype="<u2").tobytes()


@pytest.mark.parametrize("keyword", ["PixelPaddingValue", "PixelPaddingRangeLimit"])
@pytest.mark.parametrize(
    ("signed", "vr", "found", "expected"),
    [(True, "US", 63536, -2000), (True, "SS", -2000, -2000), (False, "SS", -2000, 63536), (False, "US", 0, 0)],
)
def test_padding_values_are_written_as_the_pixels_are(
    tmp_path: Path, keyword: str, signed: bool, vr: str, found: int, expected: int
) -> None:
    def pad(dataset: FileDataset, index: int) -> None:
        dataset.PixelPaddingValue = 5
        dataset["PixelPaddingValue"].VR = vr
        dataset[keyword] = DataElement(keyword, vr, found)

    derived = derive(write_source(tmp_path, pad, signed=signed))
    assert (derived[keyword].VR, derived[keyword].value) == ("SS" if signed else "US", expected)


def test_padding_of_a_file_that_names_no_vr(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(PixelPaddingValue=-2000), signed=True)
    source = read(path)
    source.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    source.save_as(path, implicit_vr=True, little_endian=True)
    element = derive(path)["PixelPaddingValue"]
    assert (element.VR, element.value) == ("SS", -2000)


# --- lossy once, lossy for ever ----------------------------------------------------------------------

PLAIN, BASELINE, EXTENDED, SV1 = "1.2.840.10008.1.2.1", *(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 70))
J2K_LOSSLESS, J2K, NEAR, HTJ2K = (f"1.2.840.10008.1.2.4.{end}" for end in (90, 91, 81, 203))


@pytest.mark.parametrize(
    ("syntax", "before", "after", "method"),
    [
        (PLAIN, None, None, None),
        (PLAIN, "00", "00", None),
        (PLAIN, "01", "01", None),
        (SV1, None, None, None),
        (J2K_LOSSLESS, "01", "01", None),
        (BASELINE, None, "01", "ISO_10918_1"),
        (BASELINE, "00", "01", "ISO_10918_1"),  # it cannot be
        (BASELINE, "01", "01", None),  # it says so already: its own words stay
        (EXTENDED, "", "01", "ISO_10918_1"),
        (NEAR, None, "01", "ISO_14495_1"),
        (J2K, None, "01", "ISO_15444_1"),
        (J2K, "00", "00", None),  # this syntax may be lossless, and the source says so
        (J2K, "01", "01", None),
        (HTJ2K, None, "01", "ISO_15444_15"),
    ],
)
def test_lossy_history(syntax: str, before: str | None, after: str | None, method: str | None) -> None:
    dataset = item(Rows=512, Columns=512, BitsAllocated=16)
    dataset.file_meta = item(TransferSyntaxUID=UID(syntax))
    if before is not None:
        dataset.LossyImageCompression = before
    carry_lossy_history(dataset, encoded_bytes=52429)
    assert dataset.get("LossyImageCompression") == after
    assert dataset.get("LossyImageCompressionMethod") == method
    assert dataset.get("LossyImageCompressionRatio") == (10 if method else None)


def test_lossy_history_of_a_written_file(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(LossyImageCompression="01", LossyImageCompressionRatio=[3, 4]))
    derived = derive(path)
    assert derived.LossyImageCompression == "01"
    np.testing.assert_array_equal(derived.LossyImageCompressionRatio, [3, 4])
