"""The virtual scanner that knows when it does not explain a scan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from objects import ellipse, water
from scipy import ndimage

from iscl_monai.errors import ImageRefusal
from iscl_monai.scanner.calibration import calibrated
from iscl_monai.scanner.dose import acquire, insert_noise
from iscl_monai.scanner.exposure import Exposure
from iscl_monai.scanner.kernel import hann
from iscl_monai.scanner.selfcheck import LIMITS, SelfCheck, checked_scanner
from iscl_monai.scanner.technique import PHOTON_TOLERANCE, Technique
from iscl_monai.scanner.texture import mode

SIZE, SPACING_MM, PHOTONS = 128, 2.4, 2e5
Volume = NDArray[np.float32]
GOOD = SelfCheck(own_over_scan=1.0, frequency_per_mm=0.3, plausible_per_mm=(0.2, 0.5), starved=0.0, fraction=0.25)


def scan(slices: int = 3, *, photons: float = PHOTONS, rods: bool = False) -> Volume:
    truth = water(SIZE, SPACING_MM, 130, 100, hu=30)
    if rods:
        truth[ellipse(SIZE, SPACING_MM, 22, 22, x_mm=-80) | ellipse(SIZE, SPACING_MM, 22, 22, x_mm=80)] = 2500
    names = [str(index) for index in range(slices)]
    return acquire(truth[None], spacing_mm=SPACING_MM, photons=photons, seed=7, slice_ids=names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"own_over_scan": LIMITS[0]}, ""),
        ({"own_over_scan": LIMITS[1]}, ""),
        ({"own_over_scan": 0.84}, "0.84 times the scan's"),
        ({"own_over_scan": 1.33}, "1.33 times the scan's"),
        ({"own_over_scan": math.nan}, "nan times the scan's"),
        ({"frequency_per_mm": 0.14}, "mean frequency of 0.14/mm"),
        ({"frequency_per_mm": 0.6}, "mean frequency of 0.60/mm"),
        ({"starved": 0.29}, ""),  # a warning
    ],
)
def test_what_is_refused(change: dict[str, float], words: str) -> None:
    check = replace(GOOD, **change)
    if not words:
        check.refuse()
        return
    with pytest.raises(ImageRefusal, match=f"{words}.*--accept-calibration") as raised:
        check.refuse()
    assert "\n" not in str(raised.value)
    assert words in check.warnings[0]


@pytest.mark.parametrize(("starved", "warned"), [(0.0, False), (0.01, False), (0.011, True), (0.29, True)])
def test_starved_rays_are_warned_of(starved: float, warned: bool) -> None:
    assert any("starved" in warning for warning in replace(GOOD, starved=starved).warnings) == warned


def test_a_scan_is_explained() -> None:
    scanner, check = checked_scanner(list(scan(6)), fraction=0.25, spacing_mm=SPACING_MM)
    assert check.own_over_scan == pytest.approx(1, abs=0.08)
    assert check.warnings == ()
    assert scanner.kernel.name == "fitted"
    assert scanner.neighbour_correlation < 0.1


def test_starved_rays_are_counted() -> None:
    _, check = checked_scanner(list(scan(2, photons=3e4, rods=True)), fraction=0.1, spacing_mm=SPACING_MM, accept=True)
    assert check.starved > 0.02
    assert "starved" in check.warnings[-1]


def test_shared_noise_is_found() -> None:
    """A running mean over two slices: neighbours correlate by a half."""
    noisy = scan(8)
    mean_hu = (noisy[:-1] + noisy[1:]) / 2
    scanner, check = checked_scanner(list(mean_hu), fraction=0.25, spacing_mm=SPACING_MM)
    assert scanner.neighbour_correlation == pytest.approx(0.5, abs=0.08)
    assert check.own_over_scan == pytest.approx(1, abs=0.1)


def test_a_single_slice_gets_the_kernel_of_its_name() -> None:
    plane = scan(1)
    for name, kernel in (("B30f", hann(0.76)), ("LUNG", hann(1.1)), ("", hann(0.5 / SPACING_MM))):
        scanner, check = checked_scanner(
            list(plane), fraction=0.25, spacing_mm=SPACING_MM, technique=Technique(kernel=name), accept=True
        )
        assert scanner.kernel == kernel
        assert scanner.neighbour_correlation == 0
        assert check.own_over_scan == pytest.approx(1, abs=0.1)


def test_a_single_slice_has_the_photons_of_its_tube_current() -> None:
    """Within a factor: what noise it has beyond is anatomy, or was taken away, and is refused."""
    plane = scan(1)
    likely = Technique(mas=100, kvp=120, thickness_mm=5)
    expected = likely.photons_prior(SPACING_MM)
    assert expected == pytest.approx(450 * 100 * 5 * SPACING_MM)
    assert Technique(mas=100).photons_prior(SPACING_MM) is None
    found, _ = checked_scanner(list(plane), fraction=0.25, spacing_mm=SPACING_MM, technique=likely)
    assert expected / PHOTON_TOLERANCE < found.exposure.photons < expected * PHOTON_TOLERANCE
    for mas in (2, 20_000):
        options = {"fraction": 0.25, "spacing_mm": SPACING_MM, "technique": replace(likely, mas=mas)}
        with pytest.raises(ImageRefusal, match="times the scan's"):
            checked_scanner(list(plane), **options)
        _, check = checked_scanner(list(plane), accept=True, **options)
        assert check.problems


@pytest.mark.slow
def test_insertion_refuses_what_is_not_explained() -> None:
    """Blotches, as of a strong iterative reconstruction, are no linear kernel's noise."""
    noise = np.random.default_rng(0).normal(size=(6, SIZE, SIZE))
    blotches = ndimage.gaussian_filter(noise, (0, 4, 4))
    image_hu = water(SIZE, SPACING_MM, 130, 100, hu=30) + (10 * blotches / blotches.std()).astype(np.float32)
    options = {"spacing_mm": SPACING_MM, "fraction": 0.25}
    with pytest.raises(ImageRefusal, match=r"mean frequency of 0\.0\d/mm.*--accept-calibration"):
        insert_noise(image_hu, **options)
    assert insert_noise(image_hu, accept_calibration=True, **options).std() > image_hu.std()


def test_electronic_noise_moves_the_photons_no_more_than_it_must() -> None:
    """Nearly half of the rays is starved: without a limit of their variance the photons move by a factor of 3."""
    plane = list(scan(1, photons=2e3, rods=True))
    found = [
        calibrated(plane, spacing_mm=SPACING_MM, exposure=Exposure(photons=1, electronic_noise=noise)).exposure.photons
        for noise in (0.0, 3.2)
    ]
    assert max(found) / min(found) < 2.3


@pytest.mark.parametrize("counts", [0.3, 1.0, 3.0, 30.0, 100.0, 1000.0])
def test_the_variance_of_few_counts_is_that_of_their_logarithm(counts: float) -> None:
    rng = np.random.default_rng(0)
    exposure = Exposure(photons=1e5)
    few = np.full((1, 100_000), counts, np.float32)
    drawn = exposure.measured(few, 1.0, rng).var()
    assert float(exposure.variance(few)[0, 0]) == pytest.approx(drawn, rel=0.15 if counts >= 30 else 0.8)


def test_edges_do_not_hide_flat_tissue() -> None:
    rng = np.random.default_rng(0)
    flat, edges = rng.normal(5, 0.4, 3000), rng.normal(300, 20, 12_000)
    assert mode(np.concatenate([flat, edges])) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "softer"),
    [("SOFT", "STANDARD"), ("B20f", "B31s"), ("B30f", "B60f"), ("STANDARD", "BONE"), ("FC07", "FC52")],
)
def test_sharper_kernels_have_noise_of_higher_frequency(name: str, softer: str) -> None:
    low, high = (Technique(kernel=one).kernel_prior(0.7).noise_frequency_per_mm(0.7) for one in (name, softer))
    assert low < high
    for one, frequency in ((name, low), (softer, high)):
        lowest, highest = Technique(kernel=one).plausible_frequencies_per_mm(0.7)
        assert lowest < frequency < highest
