"""MR magnitude in, MR magnitude out: one scan, NIfTI or one series of classic MR Image Storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import DENOISED_KIND, DISCLAIMER
from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.dicom.nifti import NiftiVolume, NiftiWriter, described
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.domain.mr import PER_WINDOW, window_of
from iscl_monai.durable import move_into_place, whole_folder, workshop
from iscl_monai.errors import DicomRefusal, OutputRefusal
from iscl_monai.inference.denoised_before import check_not_denoised
from iscl_monai.inference.familiarity import NOT_COMPARED, Comparison, TrainingRecord, in_short
from iscl_monai.inference.image import is_nifti
from iscl_monai.inference.places import check_places
from iscl_monai.inference.series import derivation_of
from iscl_monai.inference.slice_denoiser import SliceDenoiser, check_sides
from iscl_monai.magnitude import MagnitudeScan, read_magnitude
from iscl_monai.magnitude.mr_series import mr_slices
from iscl_monai.quality.familiarity import looked_at

MOST_SLICES = 8
"""That are compared with the training before the first is denoised."""

Image = npt.NDArray[np.float32]
Progress = Callable[[int], object]
Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DenoisedMagnitude:
    """What became of a scan.

    Args:
        slices: how many it has.
        compared: with the scans of the training.
    """

    slices: int
    compared: Comparison


def denoise_magnitude(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: SliceDenoiser,
    series_uid: str | None = None,
    training: TrainingRecord | None = None,
    begins: Progress | None = None,
    progress: Progress | None = None,
) -> DenoisedMagnitude:
    """Denoise one MR magnitude scan, slice by slice.

    NIfTI keeps every byte of its header but the free text. Slices of a DICOM series become derived objects of the same
    study, as those of CT do (:mod:`iscl_monai.dicom.derive`), but for the unit, which MR has none of.

    Args:
        source: ``.nii``, ``.nii.gz``, a DICOM file, or a folder with a series.
        destination: absent; NIfTI for NIfTI, a folder for DICOM.
        denoiser: of weights for the domain ``mr``.
        series_uid: of DICOM: which series of the folder.
        training: of the weights; in what the scan is unlike it stands in the outcome, and in derived objects of DICOM.
        begins: called with the number of slices before the first is denoised.
        progress: called with 1 after each slice.

    Raises:
        Refusal: what is no MR magnitude (:func:`iscl_monai.magnitude.read_magnitude`), or cannot be written; then there
            is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    scan = read_magnitude(source, series_uid=series_uid)
    check_sides(source, *scan.values.shape[:2])
    slices = int(scan.values.shape[2])
    if begins is not None:
        begins(slices)
    per_unit = window_of(scan) / PER_WINDOW
    compared = NOT_COMPARED if training is None else training.compare_magnitude(_few_slices(scan, per_unit))

    def change(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(denoiser.change_hu(values / np.float32(per_unit)) * per_unit, np.float32)

    if is_nifti(source):
        _denoise_nifti(source, destination, denoiser, change, progress)
    else:
        remark = in_short(compared.unlike)
        _denoise_series(source, destination, denoiser, change, series_uid, progress, remark)
    return DenoisedMagnitude(slices, compared)


def before_and_after(
    source: Path | str, destination: Path | str, *, series_uid: str | None = None, most: int
) -> tuple[int, Iterator[tuple[str, Image, Image]]]:
    """The number of slices of a scan, and a few of them as they were and as they were written.

    Args:
        source: as of :func:`denoise_magnitude`.
        destination: what it wrote.
        series_uid: likewise.
        most: how many slices to show, evenly spread.

    Returns:
        With the number, what each slice is called, before and after, (row, column), thousandths of the window of the
        source; slices of NIfTI are turned so that the first axis goes to the right.
    """
    before, after = read_magnitude(source, series_uid=series_uid), read_magnitude(destination)
    per_unit = np.float32(window_of(before) / PER_WINDOW)
    count, turns = int(before.values.shape[2]), int(is_nifti(Path(source)))

    def shown() -> Iterator[tuple[str, Image, Image]]:
        for place in looked_at(count, most):
            old, new = (np.rot90(scan.values[..., place], turns) / per_unit for scan in (before, after))
            yield f"slice {place + 1} of {count}", old, new

    return count, shown()


def _few_slices(scan: MagnitudeScan, per_unit: float) -> list[Image]:
    return [scan.values[..., place] / np.float32(per_unit) for place in looked_at(scan.values.shape[2], MOST_SLICES)]


def _denoise_nifti(
    source: Path, destination: Path, denoiser: SliceDenoiser, change: Change, progress: Progress | None
) -> None:
    if not is_nifti(destination):
        raise OutputRefusal(
            f"{destination} for the NIfTI file {source}",
            allowed="a name that ends with .nii or .nii.gz",
            cure=f"give e.g. {destination.with_suffix('.nii.gz')}",
        )
    volume = NiftiVolume(source, check=False, any_axis=True)
    check_not_denoised(source, volume.description)
    text = f"{DISCLAIMER}; {denoiser.identity.name} {denoiser.identity.weights_digest[:12]}"
    header = described(volume.header, text, header_size=volume.header_size)
    with workshop(destination) as folder:
        made = folder / destination.name
        writer = NiftiWriter(made, header, volume.dtype)
        try:
            for stored in volume.slices():
                # Training sees the axes in the order of the file, NiftiVolume gives (second, first).
                writer.write(_no_less_than_0(volume, volume.changed(stored, change(volume.hu(stored).T).T)))
                _count(progress)
            writer.finish()
        finally:
            writer.close()
        move_into_place({made: destination})


def _no_less_than_0(volume: NiftiVolume, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stored values without the little that floats lie below 0 where the dark became black: no magnitude does."""
    if volume.dtype.kind != "f":
        return stored
    nothing = np.array(-volume.intercept / volume.slope, volume.dtype)
    return np.where(volume.hu(stored) < 0, nothing, stored)


def _denoise_series(
    source: Path,
    destination: Path,
    denoiser: SliceDenoiser,
    change: Change,
    series_uid: str | None,
    progress: Progress | None,
    remark: str,
) -> None:
    with without_warnings(), whole_folder(destination) as folder:
        headers, _ = mr_slices(source, series_uid)
        _check_not_ours(headers)
        writer = SeriesWriter(headers, replace(derivation_of(denoiser), remark=remark), folder)
        for index, header in enumerate(headers):
            before, dataset = load_slice(header)
            writer.write(index, dataset, before.changed(change(before.hu())))
            _count(progress)


def _check_not_ours(headers: Sequence[SliceHeader]) -> None:
    """Refuse to denoise what denoising has made.

    Raises:
        DicomRefusal: naming the first such file.
    """
    for header in headers:
        if DENOISED_KIND in header.image_type:
            raise DicomRefusal(
                header.path,
                tag="ImageType",
                found="\\".join(header.image_type),
                needed="images that were not denoised before",
                cure="give the series that they were made from",
            )


def _count(progress: Progress | None) -> None:
    if progress is not None:
        progress(1)
