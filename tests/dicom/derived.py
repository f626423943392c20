"""One synthetic slice with a rich header, derived for real: written, and read again from the disk."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pydicom
from dicom.synthetic import Change, Series, setting
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter

MOMENT = datetime(2026, 11, 22, 20, 30, 5, tzinfo=timezone.utc)
DIGEST = "0123456789abcdef" * 4
LEFT_OUT = {  # of the source, since it describes its pixels
    "DataSetTrailingPadding",
    "DigitalSignaturesSequence",
    "IconImageSequence",
    "LargestImagePixelValue",
    "MACParametersSequence",
    "ReferencedImageSequence",
    "SmallestImagePixelValue",
}


def derivation(**other: Any) -> Derivation:
    """What was done, by a model that does not exist."""
    made_by: dict[str, Any] = {
        "model": "ISCL",
        "version": "1.2",
        "weights_digest": DIGEST,
        "parameters": {"mode": "ensemble", "strength": "0.7"},
        "moment": MOMENT,
    }
    made_by |= {name: other.pop(name) for name in [*made_by] if name in other}
    return replace(Derivation.by_network(**made_by), **other)


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(dataset: FileDataset, index: int) -> None:
        for one in changes:
            one(dataset, index)

    return change


def item(**elements: object) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


FULL = setting(  # what a scanner writes, beyond what reading needs
    SpecificCharacterSet="ISO_IR 100",
    StudyDate="20200102",
    SeriesDate="20200102",
    AcquisitionDate="20200102",
    ContentDate="20200102",
    StudyTime="101112",
    SeriesTime="101113",
    AcquisitionTime="101114",
    ContentTime="101115",
    AccessionNumber="A17",
    PatientName="Test^Person",
    PatientBirthDate="19700101",
    StudyID="S1",
    SeriesNumber=3,
    DeviceSerialNumber="D5",
    SoftwareVersions="V9",
    XRayTubeCurrent=30,
    CTDIvol=4.5,
    WindowCenter=40,
    WindowWidth=400,
    PatientPosition="HFS",
)


def write_source(folder: Path, *changes: Change, **series: Any) -> Path:
    """One slice of 16 x 16."""
    made = Series(**{"slots": range(1), "rows": 16, "columns": 16, "change": both(FULL, *changes), **series})
    return made.write(folder / "source")[0]


def derive(path: Path, **other: Any) -> FileDataset:
    """The derived slice of a file, beside it; 3 stored units are added."""
    header = read_header(path)
    folder = path.parent.parent / "derived"
    folder.mkdir(exist_ok=True)
    (folder / "00001.dcm").unlink(missing_ok=True)
    with without_warnings():
        source, dataset = load_slice(header)
        written = SeriesWriter([header], derivation(**other), folder).write(0, dataset, source.stored + 3)
    return read(written)


def read(path: Path) -> FileDataset:
    """A whole file, whatever pydicom thinks of its values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        dataset.walk(lambda *_: None)
    return dataset


def valid(uid: str) -> bool:
    """Whether it is a UID made of a UUID (PS3.5 B.2)."""
    return bool(re.fullmatch(r"2\.25\.(0|[1-9]\d*)", uid)) and len(uid) <= 64 and UID(uid).is_valid


def items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every sequence, at all levels."""
    for element in dataset:
        for one in element.value if element.VR == "SQ" else ():
            yield one
            yield from items(one)
