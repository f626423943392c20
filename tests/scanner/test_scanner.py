from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from objects import Image, disc, ellipse, water

from iscl_monai.errors import ConfigRefusal
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import Kernel, hann, ram_lak
from iscl_monai.scanner.projector import (
    Backend,
    attenuation,
    backproject_variance,
    chosen_backend,
    filtered_backprojection,
    forward_project,
    hounsfield,
)

BACKENDS: tuple[Backend, ...] = ("numba", "torch")
MU = 0.02


def reconstructed(hu: Image, geometry: FanBeam, kernel: Kernel, backend: Backend) -> Image:
    integrals = forward_project(attenuation(hu), geometry, backend=backend)
    return hounsfield(filtered_backprojection(integrals, geometry, kernel, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [96, 81])
def test_projections_of_a_disc_are_its_chords(backend: Backend, size: int) -> None:
    geometry = FanBeam.around(size, 1.5)
    x_mm, y_mm, radius_mm = 14.0, -9.0, 30.0
    image = MU * disc(size, 1.5, radius_mm, x_mm=x_mm, y_mm=y_mm)
    found = forward_project(image, geometry, backend=backend)
    cos, sin = np.cos(geometry.angles())[:, None], np.sin(geometry.angles())[:, None]
    source = geometry.source_to_centre_mm
    cells = geometry.cells_mm()
    # Distance of the disc's centre from the line through source and cell.
    dx, dy = -cells * sin - source * cos, cells * cos - source * sin
    distance = np.abs((x_mm - source * cos) * dy - (y_mm - source * sin) * dx) / np.hypot(dx, dy)
    chords = 2 * np.sqrt(np.maximum(radius_mm**2 - distance**2, 0)) * MU
    away_from_edge = np.abs(distance - radius_mm) > 2 * geometry.spacing_mm
    np.testing.assert_allclose(found[away_from_edge], chords[away_from_edge], atol=0.02)
    np.testing.assert_allclose(found.sum(axis=1), chords.sum(axis=1), rtol=0.005)


@pytest.mark.parametrize("backend", BACKENDS)
def test_water_is_zero_and_inserts_are_what_they_are(backend: Backend) -> None:
    size, spacing_mm = 256, 1.4
    hu = water(size, spacing_mm, 150, 150)
    places = {
        drawn: (90 * math.cos(turn), 90 * math.sin(turn))
        for drawn, turn in zip((-1000.0, -500.0, -100.0, 100.0, 500.0, 1000.0), range(6), strict=True)
    }
    for drawn, (x_mm, y_mm) in places.items():
        hu += disc(size, spacing_mm, 14, x_mm=x_mm, y_mm=y_mm) * np.float32(drawn)
    found = reconstructed(hu, FanBeam.around(size, spacing_mm), hann(0.5 / spacing_mm), backend)
    assert found[ellipse(size, spacing_mm, 40, 40)].mean() == pytest.approx(0, abs=1)
    means = [found[ellipse(size, spacing_mm, 9, 9, x_mm=x_mm, y_mm=y_mm)].mean() for x_mm, y_mm in places.values()]
    slope, offset = np.polyfit(list(places), means, 1)
    assert slope == pytest.approx(1, abs=0.002)
    assert offset == pytest.approx(0, abs=1)
    assert found[ellipse(size, spacing_mm, 10, 10, y_mm=-165)].mean() == pytest.approx(-1000, abs=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [96, 97])
def test_what_is_scanned_stays_where_it_is(backend: Backend, size: int) -> None:
    x_mm, y_mm = 30.0, -21.0  # another place under any flip or turn
    hu = (-1000 + 1000 * disc(size, 1.5, 12, x_mm=x_mm, y_mm=y_mm)).astype(np.float32)
    found = reconstructed(hu, FanBeam.around(size, 1.5), hann(1 / 3), backend) + 1000
    mass = found * (found > 500)
    axis = (np.arange(size) - (size - 1) / 2) * 1.5
    assert (mass * axis).sum() / mass.sum() == pytest.approx(x_mm, abs=0.1)
    assert (mass * axis[:, None]).sum() / mass.sum() == pytest.approx(y_mm, abs=0.1)


def test_torch_and_numba_agree() -> None:
    geometry = FanBeam.around(128, 2.8)
    hu = water(128, 2.8, 150, 110, hu=40)
    hu[ellipse(128, 2.8, 15, 15, x_mm=60)] = 900
    rays = {backend: forward_project(attenuation(hu), geometry, backend=backend) for backend in BACKENDS}
    np.testing.assert_allclose(rays["numba"], rays["torch"], atol=2e-5)
    noise = np.random.default_rng(0).standard_normal(rays["torch"].shape).astype(np.float32)
    images = [filtered_backprojection(noise, geometry, hann(0.15), backend=backend) for backend in BACKENDS]
    # A position on the border between two fine samples may be rounded to either.
    difference = images[0] - images[1]
    assert np.abs(difference).max() < 0.1 * images[0].std()
    assert difference.std() < 2e-3 * images[0].std()
    spread = [backproject_variance(noise**2, geometry, hann(0.15), backend=backend) for backend in BACKENDS]
    assert np.abs(spread[0] - spread[1]).mean() < 1e-3 * spread[0].mean()


def test_the_variance_is_that_of_many_reconstructions() -> None:
    geometry = FanBeam.around(48, 4.0)
    rng = np.random.default_rng(0)
    strength = 1 + 0.5 * np.sin(geometry.angles())[:, None] * np.ones(geometry.detectors)
    expected = backproject_variance(strength.astype(np.float32), geometry, hann(0.125))
    images = []
    for _ in range(400):
        white = rng.standard_normal(strength.shape) * np.sqrt(strength)
        images.append(filtered_backprojection(white.astype(np.float32), geometry, hann(0.125)))
    found = np.var(images, axis=0)
    assert found.mean() / expected.mean() == pytest.approx(1, abs=0.02)
    halves = [(half.mean(), wanted.mean()) for half, wanted in ((found[:, :16], expected[:, :16]),)]
    assert halves[0][0] / halves[0][1] == pytest.approx(1, abs=0.03)


def test_noise_is_that_of_the_kernel() -> None:
    geometry = FanBeam.around(128, 1.0)
    white = np.random.default_rng(0).standard_normal((geometry.views, geometry.detectors)).astype(np.float32)
    sharp, smooth = (filtered_backprojection(white, geometry, kernel) for kernel in (ram_lak(), hann(0.25)))
    assert sharp.std() > 3 * smooth.std()
    spectrum = np.abs(np.fft.fft2(smooth)) ** 2
    f = np.hypot(np.fft.fftfreq(128), np.fft.fftfreq(128)[:, None])
    assert spectrum[(f > 0.3) & (f < 0.5)].mean() < 5e-3 * spectrum[(f > 0.05) & (f < 0.2)].mean()


def test_a_fan_holds_the_corners_of_every_image() -> None:
    for size, spacing_mm in ((512, 0.3), (512, 0.98), (768, 1.0), (64, 12.0), (5, 1.0)):
        geometry = FanBeam.around(size, spacing_mm)
        reach_mm = geometry.cells_mm()[-1] * geometry.cosines()[-1]  # of the outermost ray from the isocentre
        assert geometry.radius_mm <= reach_mm < 1.3 * geometry.radius_mm + 4 * spacing_mm
    assert FanBeam.around(512, 0.7).views == 984
    coarse = FanBeam.around(512, 0.7).coarser(pixels=2, views=2)
    assert (coarse.size, coarse.views, coarse.spacing_mm) == (256, 492, 1.4)


@pytest.mark.parametrize(
    "change",
    [{"size": 0}, {"spacing_mm": 0.0}, {"spacing_mm": math.nan}, {"views": 6}, {"source_to_centre_mm": 10.0}],
)
def test_geometries_without_sense_are_refused(change: dict[str, Any]) -> None:
    sound = {"size": 64, "spacing_mm": 1.0, "views": 8, "detectors": 10, "pitch_mm": 1.0}
    FanBeam(**sound)
    with pytest.raises(ConfigRefusal):
        FanBeam(**{**sound, **change})
    with pytest.raises(ConfigRefusal, match="pixel"):
        FanBeam.around(64, -1)


@pytest.mark.parametrize("window", [(0.5, 1.0), (1.0, -0.1), (1.0, math.nan), (1.0,)])
def test_kernels_that_would_shift_hu_are_refused(window: tuple[float, ...]) -> None:
    with pytest.raises(ConfigRefusal, match="kernel"):
        Kernel(name="odd", frequencies_per_mm=(0.0, 0.5), window=window)


def test_half_of_a_hann_window_is_in_its_middle() -> None:
    assert hann(0.5).half_per_mm == pytest.approx(0.25, abs=0.001)
    assert hann(0.5).at(np.array([0.0, 0.25, 0.5, 0.6])) == pytest.approx([1, 0.5, 0, 0], abs=1e-6)


def test_a_backend_that_cannot_run_is_refused() -> None:
    assert chosen_backend("auto", "cpu") == "numba"
    if torch.cuda.is_available():
        assert chosen_backend("auto", "cuda") == "torch"
    for backend, device in (("numba", "meta"), ("fast", "cpu"), ("auto", "nowhere")):
        with pytest.raises(ConfigRefusal, match=r"backend|device"):
            chosen_backend(backend, device)  # type: ignore[arg-type]
