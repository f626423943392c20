"""Where the body is: thick tables, lungs at the border, arms; made-up objects and real scans."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import real

from iscl_monai.dicom.series import read_series
from iscl_monai.quality.body import body_of_slice

SIZE = 256
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
TRUNK = (120.0, 128.0, 60.0, 90.0)


def ellipse(row: float, column: float, height: float, width: float) -> Mask:
    inside: Mask = ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 <= 1
    return inside


def scan(body: Mask, *, lungs: Mask | None = None, sigma_hu: float = 20) -> Image:
    image = np.where(body, 40.0, -1000.0)
    if lungs is not None:
        image[lungs & body] = -850
    noise = np.random.default_rng(1).normal(0, sigma_hu, image.shape)
    return (image + noise).astype(np.float32)


def error(mask: Mask, body: Mask) -> float:
    return float((mask ^ body).sum() / body.sum())


def chest() -> tuple[Mask, Mask]:
    return ellipse(*TRUNK), ellipse(115, 88, 38, 28) | ellipse(115, 168, 38, 28)


@pytest.mark.parametrize("thickness", [4, 8, 14])
@pytest.mark.parametrize("touching", [0, 3, -4], ids=["touching", "pressed in", "apart"])
@pytest.mark.parametrize("table_hu", [-300.0, 100.0])
def test_a_table_is_no_body(thickness: int, touching: int, table_hu: float) -> None:
    body, lungs = chest()
    image = scan(body, lungs=lungs)
    top = 180 - touching
    table = (top <= ROWS) & (top + thickness > ROWS) & (COLUMNS > 12) & (COLUMNS < 244) & ~body
    image[table] += np.float32(1000 + table_hu)
    assert error(body_of_slice(image), body) < 0.02


def test_a_lung_that_the_border_cuts_is_inside() -> None:
    body, lungs = chest()
    for cut in ((slice(None), slice(0, 172)), (slice(None), slice(90, None)), (slice(110, None), slice(None))):
        image, inside = scan(body, lungs=lungs)[cut], body[cut]
        mask = body_of_slice(image)
        assert error(mask, inside) < 0.03
        assert mask[lungs[cut]].mean() > 0.98


def test_air_at_the_border_is_outside() -> None:
    body, lungs = chest()
    mask = body_of_slice(scan(body, lungs=lungs, sigma_hu=60))
    assert not mask[:, :20].any()
    assert not mask[:40].any()
    # Foam below a table is as light as lung, and has the table and borders around it.
    image = scan(body, lungs=lungs)
    image[200:206] = 50
    image[206:] = -850
    assert error(body_of_slice(image), body) < 0.02
    # A mattress has no body around it.
    image = scan(body, lungs=lungs)
    image[200:, :] = -900
    assert error(body_of_slice(image), body) < 0.02


@pytest.mark.parametrize("share", [0.06, 0.04])
def test_small_arms_are_body(share: float) -> None:
    trunk = ellipse(120, 140, 55, 80)
    radius = np.sqrt(share * trunk.sum() / np.pi)
    arm = ellipse(130, 30, radius, radius)
    mask = body_of_slice(scan(trunk | arm))
    assert mask[arm].mean() > 0.98
    assert error(mask, trunk | arm) < 0.02


def test_crumbs_and_tubes_are_not() -> None:
    body, _ = chest()
    crumbs = ellipse(30, 40, 6, 6) | ((ROWS > 20) & (ROWS < 26) & (COLUMNS > 60))
    assert error(body_of_slice(scan(body | crumbs)), body) < 0.01


def test_a_hand_alone_is_a_body() -> None:
    fingers = np.zeros((SIZE, SIZE), bool)
    for row in range(60, 180, 24):
        fingers |= (abs(ROWS - row) < 7) & (COLUMNS > 60) & (COLUMNS < 190)
    assert error(body_of_slice(scan(fingers)), fingers) < 0.05


def test_nothing_is_found_in_air_and_all_in_tissue() -> None:
    assert not body_of_slice(scan(np.zeros((SIZE, SIZE), bool), sigma_hu=60)).any()
    assert body_of_slice(np.full((40, 40), 40, np.float32)).all()


@pytest.mark.parametrize(
    ("folder", "share"),
    [
        ("train/lidc_idri_0001", (0.35, 0.75)),
        ("train/cmb_crc_01068", (0.2, 0.75)),
        ("test/totalsegmentator_abdomen", (0.1, 0.6)),
        ("qa/ge_head_tilt", (0.2, 0.75)),
    ],
)
def test_real_scans_have_one_body_without_a_table(folder: str, share: tuple[float, float]) -> None:
    series = read_series(real(folder), geometry="slices")
    plane = series.hu[len(series.hu) // 2]
    mask = body_of_slice(np.asarray(plane))
    assert share[0] < mask.mean() < share[1]
    # What lies below the body is air and table.
    lowest = int(np.flatnonzero(mask.any(axis=1))[-1])
    wide = mask[max(0, lowest - 3) : lowest + 1].sum(axis=1).max()
    assert wide < 0.9 * mask.sum(axis=1).max()
