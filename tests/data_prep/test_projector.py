from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from data_prep.projector import (
    ParallelBeam,
    backproject_variance,
    filtered_backprojection,
    forward_project,
)
from iscl_monai.errors import ConfigRefusal

MU = 0.02


def disc(geometry: ParallelBeam, *, x_mm: float, y_mm: float, radius_mm: float) -> torch.Tensor:
    """(1, row, column) with partial volumes at the border."""
    rows = (torch.arange(geometry.rows * 4) - (geometry.rows * 4 - 1) / 2) * geometry.spacing_mm / 4
    columns = (torch.arange(geometry.columns * 4) - (geometry.columns * 4 - 1) / 2) * geometry.spacing_mm / 4
    inside = (columns - x_mm) ** 2 + (rows[:, None] - y_mm) ** 2 <= radius_mm**2
    return torch.nn.functional.avg_pool2d(inside.float()[None] * MU, 4)


@pytest.mark.parametrize(("rows", "columns"), [(96, 96), (81, 120), (110, 75)])
def test_projections_of_a_disc_are_its_chords(rows: int, columns: int) -> None:
    geometry = ParallelBeam(rows=rows, columns=columns, spacing_mm=1.5, views=37)
    x_mm, y_mm, radius_mm = 14.0, -9.0, 30.0
    found = forward_project(disc(geometry, x_mm=x_mm, y_mm=y_mm, radius_mm=radius_mm), geometry)[0]
    t = (torch.arange(geometry.detectors) - (geometry.detectors - 1) / 2) * geometry.spacing_mm
    angles = torch.tensor(geometry.angles())[:, None]
    distance = t - (x_mm * torch.cos(angles) + y_mm * torch.sin(angles))
    chords = 2 * (radius_mm**2 - distance**2).clamp(min=0).sqrt() * MU
    away_from_edge = (distance.abs() - radius_mm).abs() > 2 * geometry.spacing_mm
    torch.testing.assert_close(found[away_from_edge], chords[away_from_edge], atol=0.02, rtol=0)
    torch.testing.assert_close(found.sum(dim=1), chords.sum(dim=1), atol=0, rtol=0.005)


@pytest.mark.parametrize(("rows", "columns"), [(96, 96), (81, 120)])
def test_backprojection_gives_the_disc_back(rows: int, columns: int) -> None:
    geometry = ParallelBeam(rows=rows, columns=columns, spacing_mm=1.5, views=180)
    image = disc(geometry, x_mm=14, y_mm=-9, radius_mm=30)
    found = filtered_backprojection(forward_project(image, geometry), geometry)
    inner = disc(geometry, x_mm=14, y_mm=-9, radius_mm=26) == MU
    outer = disc(geometry, x_mm=14, y_mm=-9, radius_mm=36) == 0
    assert found[inner].mean().item() == pytest.approx(MU, rel=0.002)
    assert (found[inner] - MU).abs().max().item() < 0.02 * MU
    assert found[outer].mean().abs().item() < 0.003 * MU
    mass = found[0] * (found[0] > MU / 2)
    x_mm = (torch.arange(columns) - (columns - 1) / 2) * geometry.spacing_mm
    y_mm = (torch.arange(rows) - (rows - 1) / 2) * geometry.spacing_mm
    assert ((mass * x_mm).sum() / mass.sum()).item() == pytest.approx(14, abs=0.1)
    assert ((mass * y_mm[:, None]).sum() / mass.sum()).item() == pytest.approx(-9, abs=0.1)


def test_slices_do_not_mix() -> None:
    geometry = ParallelBeam(rows=40, columns=48, spacing_mm=2, views=30)
    images = torch.rand(3, 40, 48)
    together = filtered_backprojection(forward_project(images, geometry), geometry)
    for index in range(3):
        alone = filtered_backprojection(forward_project(images[index : index + 1], geometry), geometry)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_variance_is_that_of_reconstructed_noise() -> None:
    geometry = ParallelBeam(rows=64, columns=64, spacing_mm=1.3, views=96)
    t = torch.linspace(-1, 1, geometry.detectors)
    variance = (1 + 2 * torch.exp(-4 * t**2)).expand(1, geometry.views, -1)
    noise = torch.randn(60, geometry.views, geometry.detectors) * variance.sqrt()
    measured = filtered_backprojection(noise, geometry).var(dim=0)
    predicted = backproject_variance(variance, geometry)[0]
    for part in (slice(2, 12), slice(26, 38)):
        assert predicted[part, part].mean().item() == pytest.approx(measured[part, part].mean().item(), rel=0.04)


def test_noise_of_pure_white_rays_is_the_same_all_over() -> None:
    geometry = ParallelBeam(rows=64, columns=64, spacing_mm=1, views=96)
    variance = backproject_variance(torch.ones(1, geometry.views, geometry.detectors), geometry)
    assert np.ptp(variance.numpy()) < 1e-4 * variance.mean().item()


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"spacing_mm": 0.0}, {"spacing_mm": math.nan}, {"views": 0}])
def test_impossible_geometry_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigRefusal, match="geometry"):
        ParallelBeam(**{"rows": 8, "columns": 8, "spacing_mm": 1.0, **wrong})  # type: ignore[arg-type]
