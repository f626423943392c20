"""A made-up scan as a DICOM series: whole and valid, and marked as synthetic wherever a reader may look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, generate_uid

from iscl_monai.dicom.derive import file_meta
from iscl_monai.dicom.write import set_pixels, write_and_verify
from iscl_monai.phantom.canvas import Floats

MANUFACTURER, MODEL = "iscl_monai", "SYNTHETIC PHANTOM"
COMMENT = "SYNTHETIC PHANTOM made by python -m data_prep phantom: no patient, no scanner, not for diagnosis."
INTERCEPT_HU = -1024
STORED = np.iinfo(np.int16)
FULL_DOSE_MAS, ROTATION_S = 200.0, 0.5
DATE, TIME = "20000101", "120000"


@dataclass(frozen=True, kw_only=True)
class SyntheticScan:
    """What the headers of one series say.

    Args:
        subject: names patient and study, e.g. ``P01``; its series share study and frame of reference.
        part: BodyPartExamined.
        title: what it shows, for SeriesDescription and StudyDescription, at most 20 characters.
        dose: share of the full dose.
        number: of the series in its study.
        kernel: ConvolutionKernel.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
        identity: all that decides the pixels: the same gives the same UIDs.
    """

    subject: str
    part: str
    title: str
    dose: float
    number: int
    kernel: str
    spacing_mm: float
    slice_mm: float
    identity: str

    def uid(self, *what: object) -> UID:
        """A UID of this study that depends on nothing but what is said."""
        return generate_uid(entropy_srcs=["iscl_monai phantom", self.identity, self.subject, *map(str, what)])


def write_series(folder: Path, hu: Floats, scan: SyntheticScan) -> None:
    """Write one file per slice, first slice at the feet, and read each again.

    Args:
        folder: new, or empty.
        hu: (slice, row, column), rows to the back, columns to the patient's left, slices to the head.
        scan: for the headers.

    Raises:
        OutputRefusal: a file that cannot be written, or does not hold what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = (np.rint(hu) - INTERCEPT_HU).clip(STORED.min, STORED.max).astype(np.int16)
    for index, pixels in enumerate(stored):
        dataset = Dataset()
        elements = _subject(scan) | _equipment(scan) | _acquisition(scan)
        elements |= _place(scan, index, stored.shape) | _image(pixels)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        set_pixels(dataset, pixels)
        dataset.file_meta = file_meta(dataset)
        # The version of the package would change the bytes of an unchanged phantom.
        dataset.file_meta.ImplementationVersionName = "ISCL_PHANTOM"
        write_and_verify(dataset, folder / f"{index + 1:05d}.dcm", source="the phantom")


def _subject(scan: SyntheticScan) -> dict[str, Any]:
    """Patient and study."""
    return {
        "PatientName": f"PHANTOM^{scan.subject}",
        "PatientID": f"PHANTOM-{scan.subject}",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "QualityControlSubject": "YES",
        "PatientComments": COMMENT,
        "StudyInstanceUID": scan.uid("study"),
        "StudyDate": DATE,
        "StudyTime": TIME,
        "StudyID": "1",
        "StudyDescription": f"SYNTHETIC PHANTOM {scan.title}",
        "ReferringPhysicianName": "",
        "AccessionNumber": "",
    }


def _equipment(scan: SyntheticScan) -> dict[str, Any]:
    """Series, frame of reference, and what claims to have made it."""
    return {
        "BodyPartExamined": scan.part,
        "Modality": "CT",
        "SeriesInstanceUID": scan.uid("series", scan.dose),
        "SeriesNumber": scan.number,
        "SeriesDate": DATE,
        "SeriesTime": TIME,
        "SeriesDescription": f"SYNTHETIC PHANTOM {scan.title} {100 * scan.dose:g}% dose",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": scan.uid("frame of reference"),
        "PositionReferenceIndicator": "",
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MODEL,
        "InstitutionName": "SYNTHETIC PHANTOM",
        "QualityControlImage": "YES",
        "BurnedInAnnotation": "NO",
        "ImageComments": COMMENT,
    }


def _acquisition(scan: SyntheticScan) -> dict[str, Any]:
    """A scan of 120 kV and 200 mAs at full dose."""
    mas = FULL_DOSE_MAS * scan.dose
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "AcquisitionNumber": scan.number,
        "AcquisitionDate": DATE,
        "AcquisitionTime": TIME,
        "ContentDate": DATE,
        "ContentTime": TIME,
        "KVP": 120,
        "XRayTubeCurrent": max(1, round(mas / ROTATION_S)),
        "ExposureTime": round(1000 * ROTATION_S),
        "Exposure": max(1, round(mas)),
        "ExposureInuAs": max(1, round(1000 * mas)),
        "ConvolutionKernel": scan.kernel,
        "GantryDetectorTilt": 0,
        "SliceThickness": f"{scan.slice_mm:.6g}",
        "PixelSpacing": [f"{scan.spacing_mm:.8g}"] * 2,
    }


def _place(scan: SyntheticScan, index: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Which slice it is, and where."""
    z = (index - (shape[0] - 1) / 2) * scan.slice_mm
    corner = [-(shape[2] - 1) / 2 * scan.spacing_mm, -(shape[1] - 1) / 2 * scan.spacing_mm, z]
    return {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": scan.uid("instance", scan.dose, index),
        "InstanceNumber": index + 1,
        "ImagePositionPatient": [f"{value:.8g}" for value in corner],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SliceLocation": f"{z:.8g}",
    }


def _image(pixels: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> dict[str, Any]:
    """The grid of pixels and their way to Hounsfield units."""
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        # Signed: the noise of thin air must not be cut off at the intercept, or air becomes denser.
        "PixelRepresentation": 1,
        "RescaleIntercept": INTERCEPT_HU,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
