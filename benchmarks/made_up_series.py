"""Original axial CT series to time things on: noise, or a noisy disk in air."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIDE = 512
INTERCEPT_HU = -1024


def make_series(folder: Path, slices: int, side: int = SIDE) -> list[str]:
    """A noisy disk in air; the UIDs of its objects."""
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[:side, :side]
    body = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side * 0.4) ** 2
    noisy = (np.where(body, 1064, 24) + random.normal(0, 30, (side, side)) for _ in range(slices))
    return _save(folder, (one.round().clip(0, 4095) for one in noisy))


def make_noise(folder: Path, slices: int, side: int, seed: int) -> list[str]:
    """Noise in the range of a body, which takes no time to make; the UIDs of its objects."""
    random = np.random.default_rng(seed)
    return _save(folder, (random.integers(900, 1200, (side, side)) for _ in range(slices)))


def _save(folder: Path, stored: Iterable[npt.NDArray[np.generic]]) -> list[str]:
    """Files of one series with these stored values (row, column), 0 to 4095; the UIDs of their objects."""
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    uids = []
    for index, values in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.PatientID, dataset.SeriesNumber, dataset.InstanceNumber = "CT", "B", 1, index + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, index], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.Rows, dataset.Columns = values.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, INTERCEPT_HU, "HU"
        dataset.PixelData = values.astype("<u2").tobytes()
        dataset.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)
        uids.append(str(meta.MediaStorageSOPInstanceUID))
    return uids
