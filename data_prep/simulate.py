"""A low-dose DICOM series made from a full-dose one, marked as simulated wherever a reader may look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from data_prep.derived import SimulationRecipe, derived_header, file_meta, middle_slice, slice_identity
from data_prep.dose import OUTSIDE_HU, insert_noise, scan_noise_hu
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.errors import ConfigRefusal, DicomRefusal


def simulate_series(
    source: Path,
    destination: Path,
    *,
    fraction: float,
    z_range_mm: tuple[float, float] | None = None,
    series_uid: str | None = None,
    seed: int = 0,
    average: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write a series as it would look at a fraction of its dose.

    Args:
        source: folder with one CT series (or several, then ``series_uid`` chooses).
        destination: folder to make; appears only when complete.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 writes the (averaged) scan itself.
        z_range_mm: positions along the slice normal to keep, borders included; None: all.
        series_uid: the Series Instance UID to take.
        seed: decides the noise together with each slice's SOP Instance UID.
        average: so many neighbouring slices are averaged before noise is added (3 mm targets from 1 mm
            slices); a remainder at the end is left out.
        progress: called with the number of slices simulated since the last call.

    Returns:
        ``destination``.

    Raises:
        ConfigRefusal: if an argument makes no sense or ``destination`` exists.
        DicomRefusal: if ``source`` does not hold exactly one CT series of the kind asked for.
        ImageRefusal: if no slice shows soft tissue to calibrate on.
    """
    _check_request(destination, fraction, average)
    # Averaging needs even steps; single slices may lie anywhere.
    series = read_series(
        source,
        series_uid=series_uid,
        geometry="volume" if average > 1 else "slices",
        z_range_mm=z_range_mm,
    )
    _check_geometry(series, average)
    groups = _groups(series, average)
    mean_hu = np.stack([series.hu[group].mean(axis=0) for group in groups])
    padding = np.stack([_padding(series, group) for group in groups])
    noise_hu = scan_noise_hu(mean_hu) if fraction < 1 else None
    low_hu = insert_noise(
        mean_hu,
        spacing_mm=series.pixel_spacing_mm[0],
        fraction=fraction,
        full_dose_noise_hu=noise_hu,
        seed=seed,
        slice_ids=[slice_identity(series, middle_slice(group)) for group in groups],
        padding=padding,
        progress=progress,
    )
    recipe = SimulationRecipe(fraction=fraction, average=average, seed=seed, z_range_mm=z_range_mm, noise_hu=noise_hu)
    return _write(series, groups, low_hu, padding, recipe, destination)


def _check_request(destination: Path, fraction: float, average: int) -> None:
    """Refuse arguments that make no sense before anything is read."""
    if average < 1 or not 0 < fraction <= 1:
        raise ConfigRefusal(
            f"average={average}, fraction={fraction}",
            allowed="average >= 1 and 0 < fraction <= 1",
            cure="give e.g. fraction=0.25 and average=1",
        )
    if destination.exists():
        raise ConfigRefusal(f"{destination} exists", allowed="a new folder", cure="remove it or give another name")


def _check_geometry(series: CTSeries, average: int) -> None:
    """Refuse pixels that are no squares, and the average of slices that do not lie above each other."""
    rows_mm, columns_mm = series.pixel_spacing_mm
    if abs(rows_mm - columns_mm) > 1e-3 * rows_mm:
        raise DicomRefusal(
            series.files[0],
            tag="PixelSpacing",
            found=series.pixel_spacing_mm,
            needed="square pixels, which the simulated scanner has",
            cure="take another series",
        )
    step = series.affine_lps[:3, 2]
    normal = np.cross(series.orientation[:3], series.orientation[3:])
    drift_mm = float(np.linalg.norm(step - (step @ normal) * normal)) * (average - 1)
    if drift_mm > rows_mm / 2:
        raise DicomRefusal(
            series.files[0],
            tag="ImagePositionPatient",
            found=f"{drift_mm:.2f} mm aside between slices to be averaged (gantry tilt)",
            needed=f"at most half a pixel, {rows_mm / 2:.2f} mm",
            cure="use average=1",
        )


def _groups(series: CTSeries, average: int) -> list[slice]:
    """Neighbouring slices that become one."""
    groups = [slice(i, i + average) for i in range(0, len(series.files) - average + 1, average)]
    if not groups:
        raise ConfigRefusal(
            f"average={average} for {len(series.files)} slices",
            allowed="no more than the series has slices",
            cure="give a smaller average, or a wider z_range_mm",
        )
    return groups


def _write(
    series: CTSeries,
    groups: list[slice],
    low_hu: NDArray[np.float32],
    padding: NDArray[np.bool_],
    recipe: SimulationRecipe,
    destination: Path,
) -> Path:
    """Write all slices beside the destination, read them again, and only then give them their name."""
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        for index, group in enumerate(groups):
            dataset = derived_header(series, group, recipe)
            stored = _stored(low_hu[index], padding[index], dataset)
            dataset["PixelData"] = DataElement("PixelData", "OW", stored.tobytes())
            dataset.BitsAllocated = 16
            dataset.file_meta = file_meta(dataset)
            file = partial / f"{index + 1:05d}.dcm"
            dataset.save_as(file, enforce_file_format=True, little_endian=True, implicit_vr=False)
            if not np.array_equal(pydicom.dcmread(file).pixel_array, stored):
                raise OSError(f"{file} does not hold what was written; check the disk")
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return destination


def _padding_limits(dataset: Dataset) -> tuple[int, int] | None:
    """Stored values that mean padding, both included (DICOM PS3.3 C.7.5.1.1.2)."""
    if dataset.get("PixelPaddingValue") is None:
        return None
    first = int(dataset.PixelPaddingValue)
    last = int(dataset.get("PixelPaddingRangeLimit", first))
    if dataset.PixelRepresentation == 1:
        # Written as unsigned by mistake in many files.
        first, last = (value - 65536 if value > 32767 else value for value in (first, last))
    return min(first, last), max(first, last)


def _padding(series: CTSeries, group: slice) -> NDArray[np.bool_]:
    """True where any slice of a group shows nothing, whether the header says so or not."""
    padding = series.hu[group] < OUTSIDE_HU
    if series.padded is not None:
        padding |= series.padded[group]
    nothing: NDArray[np.bool_] = np.any(padding, axis=0)
    return nothing


def _stored(low_hu: NDArray[np.float32], padding: NDArray[np.bool_], dataset: Dataset) -> NDArray[np.int16]:
    """Round HU to stored integers; padding stays bit for bit, and nothing else becomes padding."""
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    signed = dataset.PixelRepresentation == 1
    lowest = -(1 << (dataset.BitsStored - 1)) if signed else 0
    highest = lowest + (1 << dataset.BitsStored) - 1
    limits = _padding_limits(dataset)
    stored = np.rint((low_hu.astype(np.float64) - intercept) / slope).clip(lowest, highest).astype(np.int64)
    original = dataset.pixel_array.astype(np.int64)
    if limits is not None:
        clash = (stored >= limits[0]) & (stored <= limits[1])
        stored[clash] = limits[1] + 1 if limits[1] < highest else limits[0] - 1
        # In a group, the header's slice may show something where its neighbour does not.
        was_padding = (original >= limits[0]) & (original <= limits[1])
        original[~was_padding] = limits[0]
    stored[padding] = original[padding]
    return stored.astype("<i2" if signed else "<u2")
