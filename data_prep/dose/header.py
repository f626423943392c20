"""The headers of a simulated series: a copy of the scan's, with an identity and a story of its own."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage, generate_uid

from iscl_monai.dicom.carry import carry_lossy_history, drop_private, forget_old_pixels
from iscl_monai.dicom.derive import file_meta, writable
from iscl_monai.dicom.headers import number_of
from iscl_monai.dicom.series import CTSeries
from iscl_monai.scanner.dose import SIMULATOR


@dataclass(frozen=True, kw_only=True)
class SimulationRecipe:
    """What identifies one simulated series, and is written into its headers."""

    fraction: float
    average: int
    seed: int
    z_range_mm: tuple[float, float] | None
    noise_hu: float | None
    source: str = ""
    photons: float | None = None
    kernel: str = ""

    def series_uid(self, series: CTSeries) -> str:
        """The Series Instance UID of what is made."""
        return str(generate_uid(entropy_srcs=self.entropy(_series_name(series))))

    def entropy(self, uid: str) -> list[str]:
        """Sources of a new UID: the same request of the same voxels gives the same UID, any other another."""
        return [SIMULATOR, uid, repr((self.fraction, self.average, self.seed, self.z_range_mm)), self.source]

    def title(self) -> str:
        """What is appended to the Series Description."""
        if self.fraction < 1:
            return f"SIMULATED {self.fraction:g} DOSE"
        return f"MEAN OF {self.average} SLICES"

    def story(self) -> str:
        """The Derivation Description."""
        mean = f"Mean of {self.average} neighbouring slices. " if self.average > 1 else ""
        if self.noise_hu is None:
            return f"{mean}No noise added. Not for diagnosis. ({SIMULATOR})"
        return (
            f"{mean}SIMULATED low dose: noise inserted as for {self.fraction:g} of the dose of a scan with "
            f"{self.noise_hu:.1f} HU of noise ({self.photons:.2g} photons per virtual ray, kernel {self.kernel}); "
            f"seed {self.seed}. Dose and tube current in this header are the original scan's. "
            f"Not for diagnosis. ({SIMULATOR})"
        )


def _uids(dataset: Dataset) -> tuple[str, str]:
    """SOP Class and Instance UID; anonymisers may have left them in the file's preface only."""
    sop_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or CTImageStorage
    return str(sop_class), str(dataset.get("SOPInstanceUID") or dataset.file_meta.MediaStorageSOPInstanceUID)


def _series_name(series: CTSeries) -> str:
    """What names a series, whether or not it has a UID."""
    return series.series_uid or slice_identity(series, 0)


def slice_identity(series: CTSeries, index: int) -> str:
    """What names a slice. The position goes along, as anonymisers have given one UID to all slices."""
    header = pydicom.dcmread(series.files[index], stop_before_pixels=True)
    return _identity(header, series.positions_mm[index])


def _identity(header: Dataset, position_mm: float) -> str:
    return f"{_uids(header)[1]}|{position_mm:.3f}"


def middle_slice(group: slice) -> int:
    """The slice whose header stands for a group."""
    middle: int = (group.start + group.stop - 1) // 2
    return middle


def derived_header(series: CTSeries, group: slice, recipe: SimulationRecipe) -> FileDataset:
    """Copy the middle slice's header, with new identity and a position that fits the group."""
    sources = [pydicom.dcmread(file) for file in series.files[group]]
    dataset: FileDataset = copy.deepcopy(sources[middle_slice(group) - group.start])
    carry_lossy_history(dataset, encoded_bytes=len(dataset.PixelData))
    forget_old_pixels(dataset)
    drop_private(dataset, frozenset())
    description = str(dataset.get("SeriesDescription") or "CT")
    title = f"{description[: 61 - len(recipe.title())]} | {recipe.title()}"
    dataset.SeriesDescription = writable(dataset, title, recipe.title())
    kind = [*(dataset.get("ImageType") or []), "", "", ""][2] or "AXIAL"
    dataset.ImageType = ["DERIVED", "SECONDARY", kind, "SIMULATED" if recipe.fraction < 1 else "AVERAGED"]
    dataset.DerivationDescription = recipe.story()
    dataset.SourceImageSequence = [_reference(one) for one in sources]
    if recipe.average > 1:
        _average_geometry(dataset, sources, series.spacing_between_slices_mm or 0.0)
    name = _series_name(series)
    dataset.StudyInstanceUID = series.study_uid or generate_uid(entropy_srcs=[SIMULATOR, "study", name])
    dataset.SeriesInstanceUID = recipe.series_uid(series)
    middle = middle_slice(group)
    identity = _identity(sources[middle - group.start], series.positions_mm[middle])
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=recipe.entropy(identity))
    dataset.SOPClassUID = _uids(sources[0])[0]
    # A derived image must say that its values are Hounsfield units (DICOM PS3.3 C.8.2.1).
    dataset.RescaleType = "HU"
    dataset.file_meta = file_meta(dataset)
    return dataset


def _reference(source: Dataset) -> Dataset:
    """An item of the Source Image Sequence."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _uids(source)
    return item


def _average_geometry(dataset: Dataset, sources: list[FileDataset], spacing_mm: float) -> None:
    """Put the group's slice at the mean position, as thick as the slices it stands for."""
    corner = np.mean([one.ImagePositionPatient for one in sources], axis=0)
    dataset.ImagePositionPatient = [f"{value:.10g}" for value in corner]
    if "SliceLocation" in dataset:
        told = [number_of(one, "SliceLocation") for one in sources]
        places = [place for place in told if place is not None]
        if len(places) == len(sources):
            dataset.SliceLocation = f"{np.mean(places):.10g}"
        else:
            del dataset.SliceLocation
    # From the upper face of the first to the lower face of the last: slices may overlap, or leave gaps.
    thickness_mm = number_of(dataset, "SliceThickness") or spacing_mm
    dataset.SliceThickness = f"{spacing_mm * (len(sources) - 1) + thickness_mm:.6g}"
    if "SpacingBetweenSlices" in dataset:
        dataset.SpacingBetweenSlices = f"{spacing_mm * len(sources):.6g}"
