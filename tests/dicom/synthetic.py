"""Small CT series as DICOM files, made to be good or wrong in one chosen way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

Change = Callable[[FileDataset, int], None]
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


SMALLEST_BODY_PX = 128


def body_hu(rng: np.random.Generator, slices: int, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Air around soft tissue with fat, lung, bone and a bit of metal, and noise that is another one in every slice."""
    y, x = (np.abs(np.linspace(-1, 1, side)) for side in (rows, columns))
    radius = np.hypot(y[:, None], x[None])
    hu = np.select([radius < 0.1, radius < 0.2, radius < 0.65, radius < 0.75], [2000.0, 700.0, 40.0, -100.0], -1000.0)
    hu[(radius > 0.3) & (radius < 0.5) & (x[None] > y[:, None])] = -850.0
    noise = np.where(hu < -950, 6.0, 25.0)
    return hu + noise * rng.standard_normal((slices, rows, columns))


@dataclass(frozen=True, kw_only=True)
class Series:
    """What to write; every slice holds its own noise, so that no two can be mistaken for one another.

    ``step`` is the vector from one slice to the next, along the normal when None (an oblique one is a tilt).
    ``slots`` are the multiples of it that exist: leave one out for a missing slice, repeat one for a copy.
    ``change`` may alter the data set of the slice with the given index just before it is written.
    """

    slots: Sequence[int] = range(5)
    rows: int = 6
    columns: int = 4
    orientation: Sequence[float] = AXIAL
    origin: Sequence[float] = (-10.0, -20.0, 100.0)
    step: Sequence[float] | None = None
    spacing_mm: float = 2.0
    pixel_spacing_mm: tuple[float, float] = (0.5, 0.75)
    signed: bool = False
    slopes: Sequence[float] | None = None
    intercept: float = -1024.0
    series_uid: str = field(default_factory=generate_uid)
    study_uid: str = "1.2.826.0.1.3680043.8.498.1"
    description: str = "synthetic"
    rle: bool = False
    order: Sequence[int] | None = None
    prefix: str = "slice"
    change: Change | None = None
    seed: int = 0

    def stored(self) -> npt.NDArray[np.integer]:
        """Stored integers (slice, row, column), in the order of ``slots``.

        Anything in an image that is too small to be judged, else a noisy body in air: what is no HU is refused.
        """
        shape = (len(self.slots), self.rows, self.columns)
        rng, kind = np.random.default_rng(self.seed), np.int16 if self.signed else np.uint16
        if self.rows * self.columns < SMALLEST_BODY_PX:
            return rng.integers(0, 4096, shape).astype(kind)
        slopes = np.array(self.slopes or [1.0] * len(self.slots))[:, None, None]
        stored = np.rint((body_hu(rng, *shape) - self.intercept) / slopes)
        return stored.clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)

    def hu(self) -> npt.NDArray[np.float32]:
        """What has to be read back when ``slots`` ascend along the normal."""
        slopes = np.array(self.slopes or [1.0] * len(self.slots), np.float32)
        return self.stored().astype(np.float32) * slopes[:, None, None] + np.float32(self.intercept)

    def step_vector(self) -> npt.NDArray[np.float64]:
        """From one slot to the next, LPS mm."""
        if self.step is not None:
            return np.array(self.step, float)
        return np.cross(self.orientation[:3], self.orientation[3:]) * self.spacing_mm

    def write(self, folder: Path) -> list[Path]:
        """Write the files; names and InstanceNumber follow ``order``, not position. Returns slot order."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = list(self.order) if self.order is not None else list(range(len(self.slots)))
        return [self._write_slice(folder, index, numbers[index]) for index in range(len(self.slots))]

    def _write_slice(self, folder: Path, index: int, number: int) -> Path:
        path = folder / f"{self.prefix}{number:03d}"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
        dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        self._describe(dataset, index, number)
        self._paint(dataset, index)
        if self.change is not None:
            self.change(dataset, index)
        if self.rle:
            dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
        return path

    def _describe(self, dataset: FileDataset, index: int, number: int) -> None:
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesInstanceUID = self.series_uid
        dataset.StudyInstanceUID = self.study_uid
        dataset.FrameOfReferenceUID = self.study_uid + ".1"
        dataset.PatientID = "P1"
        dataset.SeriesDescription = self.description
        dataset.InstanceNumber = number + 1
        dataset.Manufacturer = "Nobody"
        dataset.ManufacturerModelName = "Model"
        dataset.KVP = 120
        dataset.ConvolutionKernel = ["Br38f", "3"]
        dataset.SliceThickness = self.spacing_mm
        position = np.array(self.origin) + self.slots[index] * self.step_vector()
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in position]
        dataset.ImageOrientationPatient = [f"{value:.10g}" for value in self.orientation]
        dataset.PixelSpacing = list(self.pixel_spacing_mm)

    def _paint(self, dataset: FileDataset, index: int) -> None:
        dataset.Rows, dataset.Columns = self.rows, self.columns
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = int(self.signed)
        dataset.RescaleSlope = self.slopes[index] if self.slopes else 1
        dataset.RescaleIntercept = self.intercept
        dataset.RescaleType = "HU"
        dataset.PixelData = self.stored()[index].tobytes()


def setting(**elements: object) -> Change:
    """A ``change`` that sets elements of every slice; the value None deletes the element."""

    def change(dataset: FileDataset, index: int) -> None:
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


SCOUT: Mapping[str, object] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
}
"""What a scout says: it shows the patient from the front."""


def only(chosen: int, change: Change) -> Change:
    """The same change for one slice alone."""
    return lambda dataset, index: change(dataset, index) if index == chosen else None
