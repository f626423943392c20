"""Small Enhanced CT files, made to be good or wrong in one chosen way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from dicom.synthetic import SMALLEST_BODY_PX, body_hu
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from iscl_monai.dicom.headers import ENHANCED_CT_STORAGE

Change = Callable[[FileDataset], None]
SERIES = "1.2.826.0.1.3680043.8.498.7"
STUDY = "1.2.826.0.1.3680043.8.498.1"


@dataclass(frozen=True, kw_only=True)
class Enhanced:
    """What to write. Every frame holds its own noise, so that no two can be mistaken for one another.

    The rescale is shared when all slopes are one, else each frame has its own. ``change`` may alter the data set just
    before it is written.
    """

    frames: int = 4
    rows: int = 6
    columns: int = 5
    signed: bool = True
    bits: int = 12
    slopes: Sequence[float] = ()
    intercept: float = -1024.0
    sop_class: str = ENHANCED_CT_STORAGE
    uid: str = SERIES + ".1"
    frame_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    syntax: str = ExplicitVRLittleEndian
    change: Change | None = None

    def stored(self) -> npt.NDArray[np.integer]:
        """Stored integers (frame, row, column)."""
        lowest = -(1 << self.bits - 1) if self.signed else 0
        shape = (self.frames, self.rows, self.columns)
        rng = np.random.default_rng(0)
        if self.rows * self.columns < SMALLEST_BODY_PX:
            values = rng.integers(lowest, lowest + (1 << self.bits), shape)
        else:  # what is no HU is refused
            slopes = np.array(self.slopes or [1.0] * self.frames)[:, None, None]
            stored = np.rint((body_hu(rng, *shape) - self.intercept) / slopes)
            values = stored.clip(lowest, lowest + (1 << self.bits) - 1)
        return values.astype(f"{'i' if self.signed else 'u'}{2 if self.bits > 8 else 1}")

    def write(self, path: Path) -> Path:
        """Write the file."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = self.sop_class
        meta.MediaStorageSOPInstanceUID = self.uid
        meta.TransferSyntaxUID = UID(self.syntax)
        encoding = (UID(self.syntax).is_implicit_VR, UID(self.syntax).is_little_endian)
        dataset = FileDataset(str(path), {}, b"\0" * 128, meta, *encoding)
        dataset.SOPClassUID = self.sop_class
        dataset.SOPInstanceUID = self.uid
        self._describe(dataset)
        self._paint(dataset)
        dataset.SharedFunctionalGroupsSequence = [self._shared()]
        dataset.PerFrameFunctionalGroupsSequence = [self._frame(index) for index in range(self.frames)]
        if self.change is not None:
            self.change(dataset)
        dataset.save_as(path, enforce_file_format=True)
        return path

    def _describe(self, dataset: FileDataset) -> None:
        dataset.Modality = "CT"
        dataset.ImageType = list(self.frame_type)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = SERIES, STUDY
        dataset.FrameOfReferenceUID = STUDY + ".1"
        dataset.PatientID, dataset.SeriesDescription, dataset.SeriesNumber = "P1", "synthetic", 3
        dataset.Manufacturer, dataset.ManufacturerModelName = "Nobody", "Model"
        dataset.ContentQualification, dataset.PixelPresentation = "PRODUCT", "MONOCHROME"
        dataset.LossyImageCompression = "00"
        dataset.AcquisitionDateTime, dataset.SeriesDate, dataset.SeriesTime = "20200101120000", "20200101", "120000"

    def _paint(self, dataset: FileDataset) -> None:
        stored = self.stored()
        dataset.NumberOfFrames, dataset.Rows, dataset.Columns = self.frames, self.rows, self.columns
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = 8 * stored.dtype.itemsize
        dataset.BitsStored, dataset.HighBit = self.bits, self.bits - 1
        dataset.PixelRepresentation = int(self.signed)
        order = "<" if UID(self.syntax).is_little_endian else ">"
        pixels = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
        dataset["PixelData"].VR = "OW" if self.bits > 8 else "OB"

    def _rescale(self, slope: float) -> Dataset:
        return group(RescaleSlope=slope, RescaleIntercept=self.intercept, RescaleType="HU")

    def _shared(self) -> Dataset:
        shared = Dataset()
        shared.PlaneOrientationSequence = [group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
        shared.PixelMeasuresSequence = [group(PixelSpacing=[0.5, 0.75], SliceThickness=2)]
        shared.CTImageFrameTypeSequence = [group(FrameType=list(self.frame_type), PixelPresentation="MONOCHROME")]
        if not self.slopes:
            shared.PixelValueTransformationSequence = [self._rescale(1)]
        return shared

    def _frame(self, index: int) -> Dataset:
        frame = Dataset()
        # Two frames at each place, as two phases of a heart: nothing here may need places to differ.
        frame.PlanePositionSequence = [group(ImagePositionPatient=[-10, -20, 100 + 2 * (index // 2)])]
        frame.FrameContentSequence = [group(DimensionIndexValues=[1 + index // 2, 1 + index % 2])]
        if self.slopes:
            frame.PixelValueTransformationSequence = [self._rescale(self.slopes[index])]
        return frame


def group(**elements: object) -> Dataset:
    """The item of a functional group."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def shared(dataset: Dataset, sequence: str) -> Dataset:
    """The item of a functional group that all frames share."""
    item: Dataset = dataset.SharedFunctionalGroupsSequence[0][sequence].value[0]
    return item


def without(dataset: Dataset, *keywords: str) -> None:
    """Delete elements."""
    for keyword in keywords:
        delattr(dataset, keyword)
