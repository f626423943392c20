"""Simulated low dose beside a real one: one patient twice on one scanner, with 150 and with 80 mA."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import real

from data_prep.dose.simulation import Acceptance, Simulation
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.errors import DicomRefusal
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.quality.spectrum import without_anatomy
from iscl_monai.scanner.texture import flat_patches, spectrum

Image = NDArray[np.float32]
FRACTION = 80 / 150


def part(name: str, lowest_mm: float, highest_mm: float) -> CTSeries:
    (folder,) = real("train/acrin_flt_breast_001").rglob(name)
    return read_series(folder, geometry="slices", z_range_mm=(lowest_mm, highest_mm))


@cache
def high_and_low() -> tuple[Simulation, CTSeries]:
    """Liver dome and heart, found by eye: at -213 and -204.5 mm in the one, -438.25 and -429.75 in the other."""
    high = part("chest_150mA", -222, -195)
    return Simulation(high, fraction=FRACTION), part("abdomen_pelvis_80mA", -447, -424)


@cache
def simulated(index: int) -> Image:
    noise = high_and_low()[0].noise(index)
    return noise.mean_hu + noise.added_hu


def at(series: CTSeries, z_mm: float) -> int:
    return int(np.abs(np.array(series.positions_mm) - z_mm).argmin())


@pytest.mark.parametrize(("high_mm", "low_mm"), [(-213.0, -438.25), (-204.5, -429.75)])
def test_the_noise_of_a_real_lower_dose_is_simulated(high_mm: float, low_mm: float) -> None:
    simulation, low = high_and_low()
    high, index = simulation.series, at(simulation.series, high_mm)
    full_hu, low_hu, made_hu = (
        noise_sigma_hu(plane) for plane in (high.hu[index], low.hu[at(low, low_mm)], simulated(index))
    )
    assert made_hu / full_hu == pytest.approx(math.sqrt(150 / 80), rel=0.04)
    # The anatomy of three days later and its own noise: real ratios are 1.39 and 1.32.
    assert made_hu == pytest.approx(low_hu, rel=0.08)


def mean_frequency(simulation: Simulation, plane: Image, beside: Image) -> float:
    assert simulation.scanner is not None
    difference_hu, tissue_hu = without_anatomy(plane, beside)
    places = flat_patches(difference_hu, tissue_hu, simulation.scanner.expected_sigma_hu(plane), 32)
    spacing_mm = simulation.series.pixel_spacing_mm[0]
    return spectrum([difference_hu[place] for place in places], spacing_mm).mean_per_mm()


def test_the_texture_of_a_real_lower_dose_is_simulated() -> None:
    """In the difference to either neighbour: of one alone, changing anatomy moves it by 15 %."""
    simulation, low = high_and_low()
    real_per_mm, made_per_mm = [], []
    for high_mm, low_mm in ((-213.0, -438.25), (-204.5, -429.75)):
        index, other = at(simulation.series, high_mm), at(low, low_mm)
        for side in (-1, 1):
            made_per_mm.append(mean_frequency(simulation, simulated(index), simulated(index + side)))
            if other + side < len(low.hu):
                real_per_mm.append(mean_frequency(simulation, low.hu[other], low.hu[other + side]))
    assert np.mean(made_per_mm) == pytest.approx(np.mean(real_per_mm), rel=0.1)


def test_the_calibration_explains_the_scan_and_its_neighbours() -> None:
    simulation, _ = high_and_low()
    assert simulation.check is not None
    assert simulation.scanner is not None
    assert not simulation.warnings
    assert simulation.check.own_over_scan == pytest.approx(1, abs=0.1)
    assert 0.2 < simulation.scanner.neighbour_correlation < 0.45  # 5 mm every 4.25 mm


def test_iterative_sources_are_refused() -> None:
    folder: Path = real("test/totalsegmentator_abdomen")
    series = read_series(folder, geometry="slices", z_range_mm=(-805, -793))
    with pytest.raises(DicomRefusal, match=r"SAFIRE or ADMIRE 3.*--accept-iterative"):
        Simulation(series, fraction=0.25)
    averaged = Simulation(series, fraction=1, average=2)  # nothing is added
    assert averaged.warnings == ()
    accepted = Simulation(series, fraction=0.25, accepted=Acceptance(iterative=True, calibration=True))
    assert accepted.warnings[0] == "linear noise in an iterative reconstruction (SAFIRE or ADMIRE 3)"
