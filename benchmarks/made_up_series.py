"""An original axial CT series to time things on: a noisy disk in air."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIDE = 512


def make_series(folder: Path, slices: int, side: int = SIDE) -> None:
    """A noisy disk in air, as an original axial CT series."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[:side, :side]
    body = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side * 0.4) ** 2
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.PatientID, dataset.SeriesNumber, dataset.InstanceNumber = "CT", "B", 1, index + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, index], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.Rows = dataset.Columns = side
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        stored = np.where(body, 1064, 24) + random.normal(0, 30, (side, side))
        dataset.PixelData = stored.round().clip(0, 4095).astype("<u2").tobytes()
        dataset.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)
