"""Multi-frame images are written frame by frame: derived alike, proven by reading, and nothing is left of a failure."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom.derived_frames import (
    DERIVATION,
    NETWORK,
    SEVERAL,
    check_groups,
    derive,
    frames_of,
    one_line_with_a_cure,
    setting,
)
from dicom.multiframe import SERIES, STUDY, Enhanced, group, shared
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
)

from iscl_monai.dicom import enhanced_write
from iscl_monai.dicom.derivation import OUR_CODES, Derivation
from iscl_monai.dicom.enhanced import EnhancedImage, open_enhanced
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal

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
            one_line_with_a_cure(caught.value)
        for index, stored in enumerate(frames):
            writer.write(index, stored)
        with pytest.raises(ImageRefusal, match="frame 4"):
            writer.write(4, frames[0])


def test_missing_frames_are_refused(image: EnhancedImage, out: Path) -> None:
    with EnhancedWriter(image, DERIVATION, out) as writer:
        writer.write(0, next(image.slices()).stored)
        with pytest.raises(ImageRefusal, match="1 frames") as caught:
            writer.finish()
    one_line_with_a_cure(caught.value)


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
    one_line_with_a_cure(caught.value)


def test_more_than_an_element_can_hold_is_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhanced_write, "LONGEST_VALUE", 4 * 6 * 5 * 2 - 1)
    with pytest.raises(DicomRefusal, match="240 bytes") as caught:
        EnhancedWriter(image, DERIVATION, out)
    one_line_with_a_cure(caught.value)


def test_elements_that_cannot_be_encoded_are_refused(
    image: EnhancedImage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(dataset: Dataset, *_: object, **__: object) -> Dataset:
        dataset.Rows = "many"
        return dataset

    monkeypatch.setattr(enhanced_write, "derive_enhanced", spoilt)
    with pytest.raises(DicomRefusal, match="not writable") as caught, without_warnings():
        EnhancedWriter(image, DERIVATION, out)
    one_line_with_a_cure(caught.value)


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
        one_line_with_a_cure(caught.value)
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
    one_line_with_a_cure(caught.value)


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
    assert "reads back" in str(one_line_with_a_cure(caught.value))
