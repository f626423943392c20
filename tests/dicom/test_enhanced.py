from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom.multiframe import SERIES, STUDY, Enhanced, group, shared, without
from dicom.synthetic import Series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from real_data import real

from iscl_monai.dicom import enhanced_write
from iscl_monai.dicom.derivation import OUR_CODES, Derivation
from iscl_monai.dicom.enhanced import EnhancedImage, open_enhanced
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.headers import LEGACY_CONVERTED_CT_STORAGE
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal, Refusal

SEVERAL = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
NETWORK: dict[str, Any] = {"model": "model", "version": "2", "parameters": {"strength": "0.8"}, "moment": MOMENT}
DERIVATION = Derivation.by_network(**NETWORK, weights_digest="ab" * 32)
GEOMETRY = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence")
NOT_OF_THE_PIXELS = {"DerivationImageSequence", "CTImageFrameTypeSequence"}
DICOM3TOOLS = "/usr/bin/dciodvfy"
DCMDUMP = "/usr/bin/dcmdump"


def refusal(path: Path) -> DicomRefusal:
    """What reading a file to its end is refused with."""
    with pytest.raises(DicomRefusal) as caught, without_warnings():
        list(open_enhanced(path).slices())
    return told_well(caught.value)


def told_well(caught: Refusal) -> DicomRefusal:
    message = str(caught)
    assert "\n" not in message
    assert "allowed:" in message
    assert "do:" in message
    return caught  # type: ignore[return-value]


def derive(path: Path, folder: Path, derivation: Derivation = DERIVATION, *, add: int = 0) -> Dataset:
    """Write every frame again, ``add`` to each stored value, and read the result."""
    folder.mkdir(parents=True, exist_ok=True)
    image = open_enhanced(path)
    with without_warnings(), EnhancedWriter(image, derivation, folder) as writer:
        for index, one in enumerate(image.slices()):
            writer.write(index, one.changed(np.full(one.stored.shape, add * one.slope)))
        written = writer.finish()
    assert os.listdir(folder) == ["00001.dcm"] == [written.name]
    return pydicom.dcmread(written)


def frames_of(dataset: Dataset) -> list[Dataset]:
    return list(dataset.PerFrameFunctionalGroupsSequence)


# --- what is read ------------------------------------------------------------------------------------


def test_every_frame_has_its_own_rescale(tmp_path: Path) -> None:
    made = Enhanced(slopes=(1, 2, -1, 0.5))
    image = open_enhanced(made.write(tmp_path / "image.dcm"))
    assert (image.frames, image.rows, image.columns) == (4, 6, 5)
    assert (image.path, image.series_uid, image.sop_instance_uid) == (tmp_path / "image.dcm", SERIES, made.uid)
    assert (image.image_type, image.description, image.derived) == (made.frame_type, "synthetic", False)
    assert [header.position for header in image.frame_headers] == [
        (-10, -20, 100), (-10, -20, 100), (-10, -20, 102), (-10, -20, 102),
    ]  # fmt: skip
    first = image.frame_headers[0]
    assert (first.orientation, first.pixel_spacing, first.slice_thickness) == ((1, 0, 0, 0, 1, 0), (0.5, 0.75), 2)
    for one, stored, slope in zip(image.slices(), made.stored(), made.slopes, strict=True):
        np.testing.assert_array_equal(one.stored, stored)
        np.testing.assert_array_equal(one.hu(), stored.astype(np.float32) * np.float32(slope) - 1024)
        assert one.stored_range == (-2048, 2047)
        assert one.padded is None


@pytest.mark.parametrize("sop_class", [LEGACY_CONVERTED_CT_STORAGE, Enhanced.sop_class])
def test_both_classes_are_read_and_answered_in_their_own(tmp_path: Path, sop_class: str) -> None:
    derived = derive(Enhanced(sop_class=sop_class).write(tmp_path / "image.dcm"), tmp_path / "out")
    assert derived.SOPClassUID == derived.file_meta.MediaStorageSOPClassUID == sop_class


def test_padding_stands_at_the_top(tmp_path: Path) -> None:
    made = Enhanced(change=lambda dataset: setattr(dataset, "PixelPaddingValue", -2000), bits=16)
    padding = made.stored()[1, 2, 3]
    made = replace(made, change=lambda dataset: setattr(dataset, "PixelPaddingValue", int(padding)))
    slices = list(open_enhanced(made.write(tmp_path / "image.dcm")).slices())
    assert slices[1].padded is not None
    assert slices[1].padded[2, 3]
    assert slices[1].padding_range == (padding, padding)
    derived = derive(tmp_path / "image.dcm", tmp_path / "out", add=5)
    assert derived.PixelPaddingValue == derived.pixel_array[1, 2, 3] == padding
    assert (derived.pixel_array == padding).sum() == (made.stored() == padding).sum()


def test_frames_that_are_derived_are_told_and_let_through(tmp_path: Path) -> None:
    def mix(dataset: FileDataset) -> None:
        types = [list(Enhanced.frame_type) for _ in range(4)]
        types[2][0] = "DERIVED"
        without(dataset.SharedFunctionalGroupsSequence[0], "CTImageFrameTypeSequence")
        for frame, values in zip(frames_of(dataset), types, strict=True):
            frame.CTImageFrameTypeSequence = [group(FrameType=values)]
        dataset.ImageType = ["MIXED", *types[0][1:]]

    image = open_enhanced(Enhanced(change=mix).write(tmp_path / "image.dcm"))
    assert image.derived
    assert image.image_type[0] == "MIXED"
    derived = derive(image.path, tmp_path / "out")
    types = [derived.ImageType, *(frame.CTImageFrameTypeSequence[0].FrameType for frame in frames_of(derived))]
    assert types == [["DERIVED", "PRIMARY", "VOLUME", "NONE"]] * 5


def rle(dataset: FileDataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False)


def rle_with_offsets(dataset: FileDataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False, encapsulate_ext=True)
    assert "ExtendedOffsetTable" in dataset


def fragmented_jpeg(dataset: FileDataset) -> None:
    """Three fragments for each frame, and no table that says where frames begin."""
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=False)


@pytest.mark.parametrize(
    ("change", "size"), [(None, 6), (rle, 5), (rle, 48), (rle_with_offsets, 48), (fragmented_jpeg, 48)]
)
def test_encapsulated_frames_stream(tmp_path: Path, change: Callable[[FileDataset], None] | None, size: int) -> None:
    made = Enhanced(rows=size, columns=size + 1, signed=False, change=change)
    path = made.write(tmp_path / "image.dcm")
    derived = derive(path, tmp_path / "out")
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert "ExtendedOffsetTable" not in derived
    assert "ExtendedOffsetTableLengths" not in derived
    np.testing.assert_array_equal(derived.pixel_array, made.stored())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [16, 8])
def test_native_syntaxes(tmp_path: Path, syntax: str, bits: int) -> None:
    made = Enhanced(syntax=syntax, bits=bits, frames=3, rows=5)  # an odd number of pixels
    derived = derive(made.write(tmp_path / "image.dcm"), tmp_path / "out")
    np.testing.assert_array_equal(derived.pixel_array, made.stored())
    assert len(derived.PixelData) == 3 * 5 * 5 * bits // 8 + 75 * bits // 8 % 2


@pytest.mark.slow
@pytest.mark.parametrize("change", [None, rle])
def test_memory_does_not_grow_with_the_number_of_frames(
    tmp_path: Path, change: Callable[[FileDataset], None] | None
) -> None:
    made = Enhanced(frames=60, rows=128, columns=128, change=change)
    path = made.write(tmp_path / "image.dcm")
    frame = 2 * 128 * 128
    image = open_enhanced(path)
    tracemalloc.start()
    try:
        with EnhancedWriter(image, DERIVATION, tmp_path) as writer:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            for index, one in enumerate(image.slices()):
                writer.write(index, one.stored)
            _, peak = tracemalloc.get_traced_memory()
            writer.finish()
    finally:
        tracemalloc.stop()
    assert peak - before < 12 * frame


# --- what is refused ---------------------------------------------------------------------------------


def setting(**elements: object) -> Callable[[FileDataset], None]:
    return lambda dataset: [setattr(dataset, *element) for element in elements.items()] and None


def rescale(**elements: object) -> Callable[[FileDataset], None]:
    def change(dataset: FileDataset) -> None:
        for keyword, value in elements.items():
            setattr(shared(dataset, "PixelValueTransformationSequence"), keyword, value)

    return change


def deleting(place: str, keyword: str) -> Callable[[FileDataset], None]:
    return lambda dataset: without(shared(dataset, place), keyword)


def frame_type(*values: str) -> Callable[[FileDataset], None]:
    return lambda dataset: setattr(shared(dataset, "CTImageFrameTypeSequence"), "FrameType", list(values))


def without_a_frame(dataset: FileDataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = frames_of(dataset)[:-1]


def rescaled_twice(dataset: FileDataset) -> None:
    frames_of(dataset)[1].PixelValueTransformationSequence = [group(RescaleSlope=2, RescaleIntercept=0)]


def with_two_items(dataset: FileDataset) -> None:
    transformation = shared(dataset, "PixelValueTransformationSequence")
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [transformation, transformation]


def not_shared(dataset: FileDataset) -> None:
    without(dataset.SharedFunctionalGroupsSequence[0], "PixelValueTransformationSequence")


def shared_twice(dataset: FileDataset) -> None:
    dataset.SharedFunctionalGroupsSequence = [*dataset.SharedFunctionalGroupsSequence, Dataset()]


def one_frame_longer(dataset: FileDataset) -> None:
    dataset.PixelData += dataset.PixelData[:60]


def one_frame_longer_encapsulated(dataset: FileDataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
    dataset.PixelData = encapsulate([*frames, frames[0]])


def one_frame_shorter_encapsulated(dataset: FileDataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
    dataset.PixelData = encapsulate(frames[:-1])


def float_pixels(dataset: FileDataset) -> None:
    dataset.FloatPixelData = b"\0" * 8
    del dataset.PixelData


def overlay_in_the_pixels(dataset: FileDataset) -> None:
    dataset.BitsStored, dataset.HighBit = 8, 7


REFUSED: dict[str, tuple[Callable[[FileDataset], None], str, str]] = {
    "modality": (setting(Modality="MR"), "Modality", "MR"),
    "class": (setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1"), "SOPClassUID", "Enhanced MR"),
    "inverted": (setting(PhotometricInterpretation="MONOCHROME1"), "PhotometricInterpretation", "MONOCHROME1"),
    "colour": (setting(SamplesPerPixel=3), "SamplesPerPixel", "3"),
    "colour map": (setting(PixelPresentation="COLOR"), "PixelPresentation", "COLOR"),
    "concatenation": (setting(InConcatenationNumber=2), "InConcatenationNumber", "2"),
    "concatenation by name": (setting(ConcatenationUID="1.2.3"), "ConcatenationUID", "1.2.3"),
    "no type": (setting(ImageType=None), "ImageType", "absent"),
    "no width": (setting(BitsAllocated=0), "PixelData", "240 bytes"),
    "no sign": (lambda dataset: without(dataset, "PixelRepresentation"), "PixelRepresentation", "None"),
    "no slope": (deleting("PixelValueTransformationSequence", "RescaleSlope"), "RescaleSlope", "frame 1"),
    "slope 0": (rescale(RescaleSlope=0), "RescaleSlope", "0"),
    "no intercept": (deleting("PixelValueTransformationSequence", "RescaleIntercept"), "RescaleIntercept", "absent"),
    "no unit": (deleting("PixelValueTransformationSequence", "RescaleType"), "RescaleType", "absent"),
    "other unit": (rescale(RescaleType="US"), "RescaleType", "US"),
    "no rescale": (not_shared, "RescaleSlope", "frame 1"),
    "two rescales": (rescaled_twice, "PixelValueTransformationSequence", "frame 2"),
    "two rescale items": (with_two_items, "PixelValueTransformationSequence", "2 items"),
    "two shared items": (shared_twice, "SharedFunctionalGroupsSequence", "2 items"),
    "no frame type": (deleting("CTImageFrameTypeSequence", "FrameType"), "FrameType", "absent"),
    "mixed frame type": (frame_type("MIXED", "PRIMARY", "VOLUME", "NONE"), "FrameType", "MIXED"),
    "localizer": (frame_type("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"), "FrameType", "LOCALIZER"),
    "frames": (without_a_frame, "NumberOfFrames", "4, with 3"),
    "more pixels": (one_frame_longer, "PixelData", "300 bytes"),
    "fewer pixels": (setting(PixelData=b"\0" * 180), "PixelData", "180 bytes"),
    "more fragments": (one_frame_longer_encapsulated, "PixelData", "more than 4 frames"),
    "fewer fragments": (one_frame_shorter_encapsulated, "PixelData", ""),
    "float pixels": (float_pixels, "PixelData", "absent"),
    "no pixels": (lambda dataset: without(dataset, "PixelData"), "PixelData", "absent"),
    "overlay": (overlay_in_the_pixels, "BitsStored", "8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    change, tag, words = REFUSED[name]
    with without_warnings():
        path = Enhanced(change=change).write(tmp_path / "image.dcm")
    caught = refusal(path)
    assert caught.tag == tag
    assert words in str(caught)
    assert str(path) in str(caught)


def test_malformed_elements_are_refused(tmp_path: Path) -> None:
    path = Enhanced(change=lambda dataset: frames_of(dataset)[2].add_new("StationName", "SH", "broken"))
    path = path.write(tmp_path / "image.dcm")
    raw = path.read_bytes()
    assert raw.count(b"SH\6\0broken") == 1
    path.write_bytes(raw.replace(b"SH\6\0broken", b"FD\6\0broken"))  # whose values have 8 bytes each
    assert refusal(path).tag == "element (0008,1010)"


def test_deflated_files_are_refused(tmp_path: Path) -> None:
    path = Enhanced(syntax=DeflatedExplicitVRLittleEndian).write(tmp_path / "image.dcm")
    assert refusal(path).tag == "TransferSyntaxUID"


def test_other_files_are_refused(tmp_path: Path) -> None:
    single = Series().write(tmp_path)[0]
    assert refusal(single).tag == "SOPClassUID"
    (tmp_path / "note.txt").write_text("not DICOM")
    assert "not readable" in str(refusal(tmp_path / "note.txt"))
    assert "not readable" in str(refusal(tmp_path / "nowhere"))


@pytest.mark.parametrize("change", [None, rle, fragmented_jpeg])
@SEVERAL
@given(kept=st.floats(0, 1, exclude_max=True))
def test_files_cut_short_are_not_opened(
    tmp_path: Path, change: Callable[[FileDataset], None] | None, kept: float
) -> None:
    whole = Enhanced(rows=48, columns=48, change=change, signed=False).write(tmp_path / "image.dcm").read_bytes()
    # Without its last 8 bytes only the end of an encapsulated file is missing, which says that nothing is.
    for size in (int(kept * len(whole)), len(whole) - 1, len(whole) - 8):
        (tmp_path / "image.dcm").write_bytes(whole[:size])
        with pytest.raises(DicomRefusal) as caught:
            open_enhanced(tmp_path / "image.dcm")
        told_well(caught.value)


# --- what is written ---------------------------------------------------------------------------------


@SEVERAL
@given(
    frames=st.integers(1, 5), rows=st.integers(1, 7), columns=st.integers(1, 7), signed=st.booleans(),
    bits=st.sampled_from([8, 12, 16]), own_rescale=st.booleans(),
)  # fmt: skip
def test_nothing_changed_is_nothing_changed(
    tmp_path: Path, frames: int, rows: int, columns: int, signed: bool, bits: int, own_rescale: bool
) -> None:
    slopes = tuple(1 + index / 2 for index in range(frames)) if own_rescale else ()
    made = Enhanced(frames=frames, rows=rows, columns=columns, signed=signed, bits=bits, slopes=slopes)
    source = pydicom.dcmread(made.write(tmp_path / "image.dcm"))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    derived = derive(tmp_path / "image.dcm", tmp_path / "out")
    assert derived.PixelData == source.PixelData
    check_groups(source, derived)


def check_groups(source: Dataset, derived: Dataset) -> None:
    """All functional groups are the same, except what tells that the frames are derived."""
    pairs = [(source.SharedFunctionalGroupsSequence[0], derived.SharedFunctionalGroupsSequence[0])]
    pairs += zip(frames_of(source), frames_of(derived), strict=True)
    for before, after in pairs:
        assert {element.keyword for element in after} - {element.keyword for element in before} <= NOT_OF_THE_PIXELS
        for element in before:
            if element.keyword not in NOT_OF_THE_PIXELS and not element.keyword.startswith("Unassigned"):
                assert after[element.tag] == element
    assert all(any(keyword in one for _, one in pairs) for keyword in GEOMETRY)


def test_the_change_arrives(tmp_path: Path) -> None:
    made = Enhanced(slopes=(1, 2, -1, 0.5))
    derived = derive(made.write(tmp_path / "image.dcm"), tmp_path / "out", add=3)
    np.testing.assert_array_equal(derived.pixel_array, (made.stored().astype(int) + 3).clip(-2048, 2047))


def test_identity_of_the_derived_image(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "image.dcm")
    derived = derive(path, tmp_path / "out")
    assert derived.SOPInstanceUID not in (Enhanced.uid, "")
    assert derived.SeriesInstanceUID not in (SERIES, "")
    assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert (derived.StudyInstanceUID, derived.FrameOfReferenceUID, derived.PatientID) == (STUDY, STUDY + ".1", "P1")
    assert (derived.SeriesNumber, derived.SeriesDescription) == (377, "synthetic | AI DENOISED ISCL")
    assert (derived.Manufacturer, derived.ManufacturerModelName) == ("Nobody", "Model")
    assert derived.AcquisitionDateTime == "20200101120000"
    for name in ("Series", "Content", "InstanceCreation"):
        assert (derived[f"{name}Date"].value, derived[f"{name}Time"].value) == ("20260304", "050607")
    again = derive(path, tmp_path / "again")
    assert (again.SOPInstanceUID, again.SeriesInstanceUID) == (derived.SOPInstanceUID, derived.SeriesInstanceUID)
    other = derive(path, tmp_path / "other", Derivation.by_network(**NETWORK, weights_digest="cd" * 32))
    assert not {other.SOPInstanceUID, other.SeriesInstanceUID} & {derived.SOPInstanceUID, derived.SeriesInstanceUID}


def test_several_images_of_a_series_stay_together(tmp_path: Path) -> None:
    images = [open_enhanced(Enhanced(uid=f"{SERIES}.{n}").write(tmp_path / f"{n}.dcm")) for n in (1, 2)]
    out = tmp_path / "out"
    out.mkdir()
    for number, image in enumerate(images, 1):
        with EnhancedWriter(image, DERIVATION, out, number=number) as writer:
            for index, one in enumerate(image.slices()):
                writer.write(index, one.stored)
            writer.finish()
    one, two = (pydicom.dcmread(out / name) for name in ("00001.dcm", "00002.dcm"))
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_it_says_that_it_is_derived(tmp_path: Path) -> None:
    derived = derive(Enhanced().write(tmp_path / "image.dcm"), tmp_path / "out")
    assert derived.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    assert shared(derived, "CTImageFrameTypeSequence").FrameType == derived.ImageType
    assert derived.ContentQualification == "RESEARCH"
    assert "not for primary diagnosis" in derived.ImageComments
    assert "BurnedInAnnotation" not in derived  # as in the source
    assert derived.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == OUR_CODES
    equipment = derived.ContributingEquipmentSequence[-1]
    assert equipment.SoftwareVersions[1] == "model 2"
    # These belong to single-frame images; here they stand in the functional groups.
    for keyword in ("DerivationDescription", "DerivationCodeSequence", "SourceImageSequence", "RescaleType"):
        assert keyword not in derived


def test_every_frame_points_to_its_source(tmp_path: Path) -> None:
    derived = derive(Enhanced().write(tmp_path / "image.dcm"), tmp_path / "out")
    for number, frame in enumerate(frames_of(derived), 1):
        (step,) = frame.DerivationImageSequence
        assert "model 2" in step.DerivationDescription
        assert "strength 0.8" in step.DerivationDescription
        assert step.DerivationCodeSequence[0].CodeValue == "NOISERED"
        (source,) = step.SourceImageSequence
        assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (Enhanced.sop_class, Enhanced.uid)
        assert source.ReferencedFrameNumber == number
        assert source.SpatialLocationsPreserved == "YES"
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "DerivationImageSequence" not in derived.SharedFunctionalGroupsSequence[0]


def test_earlier_steps_and_references_are_kept(tmp_path: Path) -> None:
    localizer = group(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.9")

    def derived_before(dataset: FileDataset) -> None:
        everywhere = dataset.SharedFunctionalGroupsSequence[0]
        everywhere.DerivationImageSequence = [group(DerivationDescription="averaged")]
        everywhere.ReferencedImageSequence = [localizer]
        instances = [
            group(**{"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ReferencedSOPInstanceUID": "1.2.9"})
        ]
        dataset.ReferencedSeriesSequence = [
            group(SeriesInstanceUID=SERIES, ReferencedInstanceSequence=instances),
            group(SeriesInstanceUID="1.2.10", ReferencedInstanceSequence=instances),
        ]
        dataset.ContributingEquipmentSequence = [group(Manufacturer="earlier")]

    derived = derive(Enhanced(change=derived_before).write(tmp_path / "image.dcm"), tmp_path / "out")
    for frame in frames_of(derived):
        assert frame.DerivationImageSequence[0].DerivationDescription == "averaged"
        assert frame.DerivationImageSequence[1].SourceImageSequence[0].ReferencedSOPInstanceUID == Enhanced.uid
        assert len(frame.DerivationImageSequence) == 2
    assert "DerivationImageSequence" not in derived.SharedFunctionalGroupsSequence[0]
    assert derived.SharedFunctionalGroupsSequence[0].ReferencedImageSequence == [localizer]
    listed = {
        one.SeriesInstanceUID: [instance.ReferencedSOPInstanceUID for instance in one.ReferencedInstanceSequence]
        for one in derived.ReferencedSeriesSequence
    }
    assert listed == {SERIES: ["1.2.9", Enhanced.uid], "1.2.10": ["1.2.9"]}
    (study,) = derived.SourceImageEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (STUDY, SERIES)
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == [Enhanced.uid]
    assert derived.ContributingEquipmentSequence[0].Manufacturer == "earlier"
    assert len(derived.ContributingEquipmentSequence) == 2


def test_what_describes_the_old_pixels_goes(tmp_path: Path) -> None:
    def describe(dataset: FileDataset) -> None:
        unassigned = group(SmallestImagePixelValue=1, LargestImagePixelValue=2, TableHeight=100, PixelPaddingValue=7)
        frames_of(dataset)[0].UnassignedPerFrameConvertedAttributesSequence = [unassigned]
        frames_of(dataset)[1].DigitalSignaturesSequence = [group(MACIDNumber=1)]
        dataset.SmallestImagePixelValue = dataset.LargestPixelValueInSeries = 1
        dataset.IconImageSequence = [group(Rows=1)]
        for block in (dataset.private_block(9, "US", create=True), dataset.private_block(9, "KEPT", create=True)):
            block.add_new(1, "LO", "text")
        frames_of(dataset)[2].private_block(9, "US", create=True).add_new(1, "LO", "text")

    with without_warnings():
        path = Enhanced(change=describe).write(tmp_path / "image.dcm")
    derived = derive(path, tmp_path / "out", replace(DERIVATION, keep_private=("KEPT",)))
    for keyword in ("SmallestImagePixelValue", "LargestPixelValueInSeries", "IconImageSequence"):
        assert keyword not in derived
    (unassigned,) = frames_of(derived)[0].UnassignedPerFrameConvertedAttributesSequence
    assert {element.keyword for element in unassigned} == {"TableHeight", "PixelPaddingValue"}
    assert "DigitalSignaturesSequence" not in frames_of(derived)[1]
    assert [element.value for element in derived if element.tag.is_private] == ["KEPT", "text"]
    assert not any(element.tag.is_private for element in frames_of(derived)[2])


def test_words_of_a_big_endian_file_are_turned(tmp_path: Path) -> None:
    def describe(dataset: FileDataset) -> None:
        table = group(LUTDescriptor=[4, 0, 16])
        table["LUTDescriptor"].VR = "US"
        table.add_new("LUTData", "OW", np.arange(4, dtype=">u2").tobytes())
        frames_of(dataset)[1].FrameVOILUTSequence = [group(VOILUTSequence=[table])]

    path = Enhanced(change=describe, syntax=ExplicitVRBigEndian).write(tmp_path / "image.dcm")
    (voi,) = frames_of(derive(path, tmp_path / "out"))[1].FrameVOILUTSequence
    assert voi.VOILUTSequence[0].LUTData == np.arange(4, dtype="<u2").tobytes()


def test_an_element_that_is_kept_must_be_readable(tmp_path: Path) -> None:
    def describe(dataset: FileDataset) -> None:
        dataset.private_block(9, "KEPT", create=True).add_new(1, "LO", "broken")

    path = Enhanced(change=describe).write(tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes().replace(b"LO\x06\0broken", b"FD\x06\0broken"))
    with pytest.raises(DicomRefusal, match="0009,1001"):
        derive(path, tmp_path / "out", replace(DERIVATION, keep_private=("KEPT",)))


def test_the_preamble_is_not_inherited(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "image.dcm")
    raw = path.read_bytes()
    path.write_bytes(b"II*\0".ljust(128, b"x") + raw[128:])
    derive(path, tmp_path / "out")
    assert (tmp_path / "out" / "00001.dcm").read_bytes()[:132] == b"\0" * 128 + b"DICM"


def test_lossy_history_is_carried(tmp_path: Path) -> None:
    def near_lossless(dataset: FileDataset) -> None:
        dataset.compress("1.2.840.10008.1.2.4.81", jls_error=2, generate_instance_uid=False)
        dataset.LossyImageCompression = "00"  # a lie

    with without_warnings():
        path = Enhanced(rows=64, columns=64, signed=False, change=near_lossless).write(tmp_path / "image.dcm")
    derived = derive(path, tmp_path / "out")
    assert (derived.LossyImageCompression, derived.LossyImageCompressionMethod) == ("01", "ISO_14495_1")
    encoded = len(pydicom.dcmread(path).PixelData)
    assert float(derived.LossyImageCompressionRatio) == pytest.approx(4 * 64 * 64 * 2 / encoded, rel=0.01)


@pytest.mark.parametrize("blank", ["SeriesInstanceUID", "StudyInstanceUID"])
def test_blanked_uids(tmp_path: Path, blank: str) -> None:
    path = Enhanced(change=setting(**{blank: ""})).write(tmp_path / "image.dcm")
    derived = derive(path, tmp_path / "out")
    assert derived.StudyInstanceUID
    assert derived.SeriesInstanceUID
    assert "SourceImageEvidenceSequence" not in derived
    assert ("ReferencedSeriesSequence" in derived) == (blank != "SeriesInstanceUID")


# --- how the writing fails ---------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> EnhancedImage:
    return open_enhanced(Enhanced().write(tmp_path / "image.dcm"))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A folder that must be empty at the end."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder
    assert not os.listdir(folder)


def test_wrong_frames_are_refused(image: EnhancedImage, out: Path) -> None:
    frames = [one.stored for one in image.slices()]
    wrong = [(1, frames[1]), (0, frames[0][:-1]), (0, frames[0].astype(np.uint16)), (0, frames[0].astype(np.int32))]
    with EnhancedWriter(image, DERIVATION, out) as writer:
        for index, stored in wrong:
            with pytest.raises(ImageRefusal, match="in order") as caught:
                writer.write(index, stored)
            told_well(caught.value)
        for index, stored in enumerate(frames):
            writer.write(index, stored)
        with pytest.raises(ImageRefusal, match="frame 4"):
            writer.write(4, frames[0])


def test_missing_frames_are_refused(image: EnhancedImage, out: Path) -> None:
    with EnhancedWriter(image, DERIVATION, out) as writer:
        writer.write(0, next(image.slices()).stored)
        with pytest.raises(ImageRefusal, match="1 frames") as caught:
            writer.finish()
    told_well(caught.value)


def test_an_interrupted_file_leaves_nothing(image: EnhancedImage, out: Path) -> None:
    def interrupted() -> None:
        with EnhancedWriter(image, DERIVATION, out) as writer:
            writer.write(0, next(image.slices()).stored)
            assert all(name.startswith(".") for name in os.listdir(out))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_file_that_exists_is_not_replaced(image: EnhancedImage, tmp_path: Path) -> None:
    (tmp_path / "00001.dcm").write_text("precious")
    with pytest.raises(OutputRefusal, match="exists"):
        EnhancedWriter(image, DERIVATION, tmp_path)
    assert (tmp_path / "00001.dcm").read_text() == "precious"
    with pytest.raises(OutputRefusal, match="cannot be written"):
        EnhancedWriter(image, DERIVATION, tmp_path / "nowhere")


def test_a_source_that_changes_is_refused(image: EnhancedImage, out: Path) -> None:
    Enhanced(uid=SERIES + ".9").write(image.path)
    with pytest.raises(DicomRefusal, match="not what it was") as caught:
        EnhancedWriter(image, DERIVATION, out)
    told_well(caught.value)


def test_more_than_an_element_can_hold_is_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhanced_write, "LONGEST_VALUE", 4 * 6 * 5 * 2 - 1)
    with pytest.raises(DicomRefusal, match="240 bytes") as caught:
        EnhancedWriter(image, DERIVATION, out)
    told_well(caught.value)


def test_elements_that_cannot_be_encoded_are_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(dataset: Dataset, *_: object, **__: object) -> Dataset:
        dataset.Rows = "many"
        return dataset

    monkeypatch.setattr(enhanced_write, "derive_enhanced", spoilt)
    with pytest.raises(DicomRefusal, match="not writable") as caught, without_warnings():
        EnhancedWriter(image, DERIVATION, out)
    told_well(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("frame", [6, 400])
def test_a_full_disk_is_refused(tmp_path: Path, out: Path, frame: int) -> None:
    image = open_enhanced(Enhanced(rows=frame, columns=frame).write(tmp_path / "image.dcm"))
    with EnhancedWriter(image, DERIVATION, out) as writer:
        writer._file.flush()
        os.dup2(os.open("/dev/full", os.O_WRONLY), writer._file.fileno())
        with pytest.raises(OutputRefusal, match="No space left") as caught:  # noqa: PT012 - small files fail late
            for index, one in enumerate(image.slices()):
                writer.write(index, one.stored)
            writer.finish()
        told_well(caught.value)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer._file.fileno())  # so that it can be closed


class Filling(io.BytesIO):
    """A disk with room for a part of the header."""

    def write(self, data: object) -> int:
        if self.tell() > 600:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_a_disk_that_is_full_in_the_header_is_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EnhancedWriter, "_open", lambda _: Filling())
    with pytest.raises(OutputRefusal, match="No space left") as caught:
        EnhancedWriter(image, DERIVATION, out)
    told_well(caught.value)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (-1, "PixelData"),
        (-240, "PixelData"),
        (-248, "PixelData"),
        (b"synthetic", "SeriesDescription"),
        (b"DICM", "header"),
    ],
)
def test_what_reads_back_otherwise_is_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch, where: int | bytes, words: str
) -> None:
    def bad_disk(handle: int) -> None:
        (partial,) = out.iterdir()
        raw = bytearray(partial.read_bytes())
        place = raw.index(where) if isinstance(where, bytes) else where
        raw[place] ^= 1
        partial.write_bytes(raw)

    with EnhancedWriter(image, DERIVATION, out) as writer:
        for index, one in enumerate(image.slices()):
            writer.write(index, one.stored)
        monkeypatch.setattr(os, "fsync", bad_disk)
        with pytest.raises(OutputRefusal, match=words) as caught:
            writer.finish()
    assert "reads back" in str(told_well(caught.value))


# --- what lies in a folder ---------------------------------------------------------------------------


def test_multiframe_images_are_found_beside_series(tmp_path: Path) -> None:
    made = Series()
    made.write(tmp_path / "single")
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    Enhanced(change=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])).write(tmp_path / "scout.dcm")
    Enhanced(change=setting(Modality="PT")).write(tmp_path / "other.dcm")
    found = find_series(tmp_path)
    assert [one.uid for one in found.series] == [made.series_uid]
    assert [(header.path, header.frames) for header in found.multiframe] == [(path, 4)]
    assert sorted(skipped.path.name for skipped in found.skipped) == ["other.dcm", "scout.dcm"]
    assert "localizer" in found.reasons()
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())


def test_no_series_is_read_from_a_multiframe_image(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    for options in ({}, {"series_uid": SERIES}):
        with pytest.raises(DicomRefusal, match="open_enhanced") as caught:
            read_series(tmp_path, **options)
        assert caught.value.file == str(told_well(caught.value).file) == str(path)
    Series().write(tmp_path / "single")
    with pytest.raises(DicomRefusal, match="open_enhanced"):
        read_series(tmp_path, series_uid=SERIES)
    with pytest.raises(DicomRefusal, match="among 1"):
        read_series(tmp_path, series_uid="1.2.3")


def test_a_damaged_multiframe_image_may_be_a_lost_one(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"\x28\x00\x02\x00US")])
    (skipped,) = find_series(tmp_path).skipped
    assert skipped.damaged


# --- real files, and other people's readers ----------------------------------------------------------


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 tilted slices of a GE scanner with uneven spacing and padding, converted by highdicom."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    with without_warnings():
        slices = [pydicom.dcmread(path) for path in sorted(real("qa/ge_head_tilt").rglob("*.dcm"))]
        converted = LegacyConvertedEnhancedCTImage(slices, "1.2.826.0.1.1", 9, "1.2.826.0.1.2", 1)
        path = tmp_path_factory.mktemp("legacy") / "image.dcm"
        converted.save_as(path)
    return path


@pytest.fixture(scope="module")
def legacy_derived(legacy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("derived")
    derive(legacy, out)
    return out / "00001.dcm"


def mended(source: Path, path: Path) -> Path:
    """A perfusion map made to look like a plain image in HU."""
    with without_warnings():
        dataset = pydicom.dcmread(source)
        shared(dataset, "PixelValueTransformationSequence").RescaleType = "HU"
        shared(dataset, "CTImageFrameTypeSequence").PixelPresentation = dataset.PixelPresentation = "MONOCHROME"
        without(dataset.SharedFunctionalGroupsSequence[0], "RealWorldValueMappingSequence")
        for tag in [tag for tag in dataset.keys() if 0x00281100 < tag < 0x00281300]:  # noqa: SIM118
            del dataset[tag]
        dataset.save_as(path)
    return path


def test_a_converted_series_stays_bit_for_bit(legacy: Path, legacy_derived: Path) -> None:
    with without_warnings():
        source, derived = pydicom.dcmread(legacy), pydicom.dcmread(legacy_derived)
    assert derived.NumberOfFrames == 28
    assert hashlib.sha256(derived.PixelData).digest() == hashlib.sha256(source.PixelData).digest()
    check_groups(source, derived)
    positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames_of(derived)]
    assert positions == [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames_of(source)]
    assert not any(element.tag.is_private for element in derived.iterall())
    slices = list(open_enhanced(legacy_derived).slices())
    assert all(one.padding_range == (-1500, -1500) for one in slices)
    assert any(one.padded is not None for one in slices)


def test_a_derived_image_can_be_derived_from(legacy_derived: Path, tmp_path: Path) -> None:
    assert open_enhanced(legacy_derived).derived
    twice = derive(legacy_derived, tmp_path / "out")
    assert len(frames_of(twice)[5].DerivationImageSequence) == 2


def messages(path: Path) -> set[str]:
    done = subprocess.run([DICOM3TOOLS, "-new", path], capture_output=True, text=True, check=False)
    assert "Enhanced" in done.stderr  # it knew what to look for
    return {line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))}


@pytest.mark.skipif(not Path(DICOM3TOOLS).exists(), reason="dicom3tools is not installed")
def test_the_validator_finds_nothing_new(legacy: Path, legacy_derived: Path, tmp_path: Path) -> None:
    source = mended(real("robust/robust_pydicom") / "eCT_Supplemental.dcm", tmp_path / "image.dcm")
    derive(source, tmp_path / "out")
    for before, after in ((legacy, legacy_derived), (source, tmp_path / "out" / "00001.dcm")):
        new = messages(after) - messages(before)
        # Our own coding scheme, and a UID that its dictionary of 2022 does not know there.
        assert not [line for line in new if "99ISCL" not in line and "DeviceUID" not in line]
        assert not any(line.startswith("Error") for line in new)


def test_highdicom_and_simpleitk_read_it(legacy: Path, legacy_derived: Path) -> None:
    import highdicom
    import SimpleITK

    with without_warnings():
        hu = [highdicom.imread(path).get_frames(dtype=np.float64) for path in (legacy, legacy_derived)]
    np.testing.assert_array_equal(*hu)
    read = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)) for path in (legacy, legacy_derived)]
    assert read[1].shape == (28, 512, 512)
    np.testing.assert_array_equal(*read)


@pytest.mark.skipif(not Path(DCMDUMP).exists(), reason="dcmtk is not installed")
def test_dcmtk_reads_it(legacy_derived: Path) -> None:
    done = subprocess.run([DCMDUMP, legacy_derived], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("DerivationImageSequence") == 28
    assert "(7fe0,0010) OW" in done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "robust_pydicom/eCT_Supplemental.dcm",
        "robust_transfer_syntaxes/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm",
    ],
)
def test_perfusion_maps_are_refused(name: str) -> None:
    folder, file = name.split("/")
    assert refusal(real(f"robust/{folder}") / file).tag == "PixelPresentation"


@pytest.mark.skipif("libjpeg" in sys.modules, reason="a decoder for 12-bit JPEG is installed")
def test_pixels_that_no_free_decoder_reads_are_refused(tmp_path: Path) -> None:
    name = "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"
    caught = refusal(mended(real("robust/robust_transfer_syntaxes") / name, tmp_path / "image.dcm"))
    assert caught.tag == "PixelData"
    for words in ("JPEG Extended", "12-bit", "Explicit VR Little Endian"):
        assert words in str(caught)
