"""Slices of real scanners, copied to where they may be changed, and the derived series that are made of them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom.derived import read
from real_data import real

from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.series import denoise_series


@dataclass(frozen=True)
class Pair:
    """A folder of source slices, and what was made of it, with a residual."""

    scanner: str
    source: Path
    derived: Path

    def sources(self) -> list[Path]:
        """The source files."""
        return sorted(self.source.iterdir())

    def files(self) -> list[tuple[Path, Path]]:
        """Source and derived file of every slice, as the derived one tells it; denoised ones, then residuals."""
        return self._files

    @functools.cached_property  # nobody changes them
    def _files(self) -> list[tuple[Path, Path]]:
        by_uid = {read(path).SOPInstanceUID: path for path in self.sources()}
        derived = [*sorted(self.derived.glob("*.dcm")), *sorted(self.derived.glob("residual/*.dcm"))]
        return [(by_uid[read(path).SourceImageSequence[0].ReferencedSOPInstanceUID], path) for path in derived]


def _ge(folder: Path) -> None:
    _copy(sorted((real("qa/ge_head_tilt") / "ge_head_tilt").iterdir()), folder)


def _ge_lightspeed(folder: Path) -> None:
    _copy(sorted((real("test/covid19_ny_sbu_6_patients") / "A027284" / "axial").iterdir())[:1], folder)


def _philips(folder: Path) -> None:
    slices = real("qa/philips_phantom_mixed_folder") / "philips_mixed" / "S21570" / "S2010"
    _copy(sorted(slices.glob("I1??")), folder)  # the tenth to the nineteenth


def _philips_lidc(folder: Path) -> None:
    _copy(sorted((real("train/lidc_idri_0314") / "data").glob("*.dcm"))[100:103], folder)


def _toshiba(folder: Path) -> None:
    _copy([real("test/covid19_ny_sbu_6_patients") / "A046441" / "axial" / "19010101-23.dcm"], folder)


def _siemens(folder: Path) -> None:
    """With the UIDs that the de-identifier blanked: those of the slices are left in the file meta group."""
    _copy(sorted(real("test/totalsegmentator_abdomen").iterdir())[:10], folder)
    for path in folder.iterdir():
        dataset = read(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
        dataset.save_as(path)


def _copy(files: list[Path], folder: Path) -> None:
    assert files
    for file in files:
        shutil.copyfile(file, folder / file.name)


SCANNERS: dict[str, Callable[[Path], None]] = {
    "GE HiSpeed": _ge,
    "GE LightSpeed": _ge_lightspeed,
    "Philips Ingenuity": _philips,
    "Philips Brilliance": _philips_lidc,
    "Siemens": _siemens,
    "Toshiba": _toshiba,
}


def make_pair(scanner: str, folder: Path, denoiser: Denoiser) -> Pair:
    """Copy the slices of a scanner and denoise them."""
    (folder / "source").mkdir(parents=True)
    SCANNERS[scanner](folder / "source")
    denoise_series(folder / "source", folder / "derived", denoiser=denoiser, save_residual=True)
    return Pair(scanner, folder / "source", folder / "derived")
