"""Which denoised scan of a folder belongs to which pair of a datalist: by source series, patient or name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from iscl_monai.data import ScanPair
from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.images import ITK, NIFTI, is_image_file
from iscl_monai.dicom.selection import select_series
from iscl_monai.errors import ConfigRefusal, Refusal

HOW = "NAME.nii.gz or NAME/ for each pair, NAME the patient or the noisy scan, or PATIENT/NAME where that is not enough"


@dataclass(frozen=True, kw_only=True)
class DenoisedScan:
    """One image of the folder.

    Args:
        path: volume file, or folder of a DICOM series.
        series_uid: of a DICOM series.
        source_uid: SeriesInstanceUID of what it says it was made from; empty: not said, or no DICOM.
        names: of the file without its ending, and of all folders on the way to it.
    """

    path: Path
    series_uid: str = ""
    source_uid: str = ""
    names: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class DenoisedFolder:
    """A folder of denoised scans, one for each noisy scan of a section.

    Args:
        folder: the folder.
        scans: in the order of the pairs.
    """

    folder: Path
    scans: Sequence[DenoisedScan]

    @classmethod
    def find(cls, folder: Path | str, pairs: Sequence[ScanPair]) -> DenoisedFolder:
        """Match the images of a folder with the pairs; headers are read, no voxels.

        A series that names its source series (ReferencedSeriesSequence, as ``iscl-monai denoise`` writes it), or kept
        its UID, belongs to that; else names decide: patient and noisy scan together, or one of the two where only one
        noisy scan has it.

        Args:
            folder: DICOM series in folders, and volume files; other files are not looked at.
            pairs: of :func:`iscl_monai.evaluation.pairs.pairs_in`.

        Raises:
            ConfigRefusal: naming a pair without a denoised scan or with two, or an image that belongs to no pair.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ConfigRefusal(f"{folder}: no such folder", allowed="a folder of denoised scans", cure=f"make {HOW}")
        found = [*_volumes(folder), *_series(folder)]
        scans = [_of_pair(folder, found, pair, pairs) for pair in pairs]
        for one in found:
            if one not in scans:
                raise ConfigRefusal(
                    f"{one.path}{f' (series {one.series_uid})' if one.series_uid else ''} belongs to no pair",
                    allowed=f"scans of {_listed(sorted({pair.patient for pair in pairs}))}",
                    cure=f"take it out of {folder}, or name it after its patient or noisy scan",
                )
        return cls(folder=folder, scans=tuple(scans))


def _volumes(folder: Path) -> list[DenoisedScan]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_image_file(path))
    return [DenoisedScan(path=path, names=_names(path, folder)) for path in files]


def _series(folder: Path) -> list[DenoisedScan]:
    found = find_series(folder)
    if found.multiframe:
        raise ConfigRefusal(
            f"{found.multiframe[0].path} is a multi-frame image",
            allowed="series of single slices, or volume files",
            cure="write the denoised scan as one of these",
        )
    return [
        DenoisedScan(
            path=(place := Path(os.path.commonpath([path.parent for path in one.files]))),
            series_uid=one.uid,
            source_uid=_source_uid(one.files[0]),
            names=_names(place, folder),
        )
        for one in found.series
    ]


def _source_uid(file: Path) -> str:
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ReferencedSeriesSequence"], force=True)
    sources = dataset.get("ReferencedSeriesSequence") or []
    return str(sources[0].get("SeriesInstanceUID") or "") if len(sources) == 1 else ""


def _names(path: Path, folder: Path) -> frozenset[str]:
    parts = path.relative_to(folder).parts
    return frozenset([*parts[:-1], stem(path)]) if parts else frozenset()


def stem(path: Path) -> str:
    """The name without the ending of a volume file."""
    for ending in sorted((*NIFTI, *ITK), key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def _of_pair(folder: Path, found: Sequence[DenoisedScan], pair: ScanPair, pairs: Sequence[ScanPair]) -> DenoisedScan:
    """The one image that fits best."""
    others = [other for other in pairs if _noisy_scan(other) != _noisy_scan(pair)]
    own = {pair.patient, stem(pair.noisy)}
    alone = own - {name for other in others for name in (other.patient, stem(other.noisy))}
    uid = _noisy_uid(pair) if any(one.series_uid for one in found) else ""
    for fits in (
        [one for one in found if uid and uid in (one.source_uid, one.series_uid)],
        [one for one in found if own <= one.names and len(own) > 1],
        [one for one in found if alone & one.names],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise ConfigRefusal(
                f"{len(fits)} denoised scans of {_title(pair)}: {_listed([str(one.path) for one in fits])}",
                allowed="one for each noisy scan",
                cure=f"take the others out of {folder}",
            )
    raise ConfigRefusal(
        f"{folder} has no denoised scan of {_title(pair)}", allowed=HOW, cure="denoise all pairs of the section"
    )


def _noisy_scan(pair: ScanPair) -> tuple[Path, str | None]:
    return pair.noisy, pair.noisy_series_uid


def _noisy_uid(pair: ScanPair) -> str:
    """SeriesInstanceUID of the noisy scan; empty of what is no DICOM series."""
    if pair.noisy_series_uid or is_image_file(pair.noisy):
        return pair.noisy_series_uid or ""
    try:
        return select_series(pair.noisy).uid
    except Refusal:  # told when the scan itself is read
        return ""


def _title(pair: ScanPair) -> str:
    return f"patient {pair.patient}, noisy scan {pair.noisy.name}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
