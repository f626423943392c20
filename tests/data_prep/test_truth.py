"""A virtual patient of real anatomy: truth and two doses, one place, noise that is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from objects import ellipse, water

from data_prep.__main__ import main
from iscl_monai.evaluation.scans import Scan, check_same_place, read_scan
from iscl_monai.phantom.series import SyntheticScan, write_series
from iscl_monai.quality.noise import SOFT_TISSUE_HU
from iscl_monai.scanner.calibration import with_noise

SIZE, SPACING_MM, SLICES, NOISE_HU = 128, 2.4, 6, 10.0


@pytest.fixture(scope="module")
def anatomy() -> NDArray[np.float32]:
    """Water with a vessel and a bone, HU (slice, row, column)."""
    plane = water(SIZE, SPACING_MM, 130, 100, hu=40).astype(np.float32)
    plane[ellipse(SIZE, SPACING_MM, 18, 18, x_mm=-50)] = 110
    plane[ellipse(SIZE, SPACING_MM, 15, 15, x_mm=60)] = 700
    return np.stack([plane] * SLICES)


@pytest.fixture(scope="module")
def scan(anatomy: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of it, as DICOM."""
    folder = tmp_path_factory.mktemp("truth") / "scan"
    scanner = with_noise(list(anatomy), spacing_mm=SPACING_MM, noise_hu=NOISE_HU)
    noise = [scanner.own_noise(plane, np.random.default_rng(index)) for index, plane in enumerate(anatomy)]
    header = SyntheticScan(
        subject="P01",
        part="ABDOMEN",
        title="water",
        dose=1.0,
        number=1,
        kernel="Hann",
        spacing_mm=SPACING_MM,
        slice_mm=5.0,
        identity="truth",
    )
    write_series(folder, anatomy + np.stack(noise), header)
    return folder


@pytest.fixture(scope="module")
def made(scan: Path) -> Path:
    out = scan.parent / "made"
    assert main(["truth", str(scan), str(out), "--fraction", "0.25", "--accept-calibration"]) == 0
    return out


@pytest.fixture(scope="module")
def scans(made: Path) -> dict[str, Scan]:
    return {name: read_scan(made / f"{name}.nii.gz") for name in ("truth", "full", "low")}


def test_all_three_lie_where_the_scan_lies(scan: Path, scans: dict[str, Scan]) -> None:
    original = read_scan(scan)
    for one in scans.values():
        check_same_place(one, original)


def test_the_truth_is_nearer_to_the_anatomy_than_the_scan(
    scan: Path, anatomy: NDArray[np.float32], scans: dict[str, Scan]
) -> None:
    tissue = (anatomy > SOFT_TISSUE_HU[0]) & (anatomy < SOFT_TISSUE_HU[1])
    errors = [
        float(np.sqrt(np.mean((image - anatomy)[tissue] ** 2))) for image in (scans["truth"].hu, read_scan(scan).hu)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_the_doses_are_independent_and_as_noisy_as_recorded(made: Path, scans: dict[str, Scan]) -> None:
    record = json.loads((made / "truth.json").read_text())
    truth = scans["truth"].hu
    tissue = (truth >= SOFT_TISSUE_HU[0]) & (truth <= SOFT_TISSUE_HU[1])
    full, low = ((scans[name].hu - truth)[tissue] for name in ("full", "low"))
    assert full.std() == pytest.approx(record["full_noise_hu"], rel=0.02)
    assert low.std() == pytest.approx(record["low_noise_hu"], rel=0.02)
    assert low.std() / full.std() == pytest.approx(2, rel=0.15)
    assert abs(np.corrcoef(full, low)[0, 1]) < 0.1
    assert record["protocol"] == "truth-real-anatomy"
    assert record["residual_noise_hu"] < record["full_noise_hu"]


def test_the_same_seed_makes_the_same_noise(made: Path, scan: Path, tmp_path: Path) -> None:
    words = ["truth", str(scan), str(tmp_path / "again"), "--accept-calibration"]
    assert main(words) == 0
    assert np.array_equal(read_scan(tmp_path / "again" / "low.nii.gz").hu, read_scan(made / "low.nii.gz").hu)


def test_a_place_that_is_taken_is_refused(made: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["truth", str(scan), str(made)]) == 2
    assert str(made) in capsys.readouterr().err
