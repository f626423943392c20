"""None"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom.derived_frames import (
    DERIVATION,
    SEVERAL,
    derive,
    frames_of,
    one_line_with_a_cure,
    refusal,
    setting,
)
from dicom.multiframe import SERIES, Enhanced, group, shared, without
from dicom.synthetic import Series
from hypothesis import given
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

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.headers import LEGACY_CONVERTED_CT_STORAGE
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import DicomRefusal

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
        one_line_with_a_cure(caught.value)
