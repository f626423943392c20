"""A low-dose DICOM series made from a full-dose one, marked as simulated wherever a reader may look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.derived import SimulationRecipe, derived_header, middle_slice, slice_identity
from data_prep.dose import OUTSIDE_HU, insert_noise, scan_noise_hu
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import StoredSlice, load_slice, without_warnings
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.dicom.write import set_pixels, write_and_verify
from iscl_monai.durable import whole_folder
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
    """Write all slices, read them again, and only then give them their name."""
    with without_warnings(), whole_folder(destination) as folder:
        for index, group in enumerate(groups):
            file = series.files[middle_slice(group)]
            source, _ = load_slice(read_header(file))
            dataset = derived_header(series, group, recipe)
            set_pixels(dataset, _stored(low_hu[index], padding[index], source))
            write_and_verify(dataset, folder / f"{index + 1:05d}.dcm", source=file)
    return destination


def _padding(series: CTSeries, group: slice) -> NDArray[np.bool_]:
    """True where any slice of a group shows nothing, whether the header says so or not."""
    padding = series.hu[group] < OUTSIDE_HU
    if series.padded is not None:
        padding |= series.padded[group]
    nothing: NDArray[np.bool_] = np.any(padding, axis=0)
    return nothing


def _stored(low_hu: NDArray[np.float32], padding: NDArray[np.bool_], source: StoredSlice) -> NDArray[np.integer]:
    """Round HU to stored integers; padding stays bit for bit, and nothing else becomes padding."""
    stored = source.changed(np.where(padding, 0, low_hu - source.hu()))
    if source.padding_range is not None:
        # In a group, the header's slice may show something where its neighbour does not.
        shown = padding if source.padded is None else padding & ~source.padded
        stored[shown] = source.padding_range[0]
    return stored
