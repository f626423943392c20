from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import (
    HU_BODY,
    HU_FRAME,
    ISCL_8BIT,
    LDCT_BENCH_ABDOMEN,
    LDCT_BENCH_CHEST,
    LDCT_BENCH_NEURO,
    PROTOCOLS,
    Protocol,
    named_protocol,
)

LEVELS_AND_WIDTHS = {LDCT_BENCH_CHEST: (-600, 1500), LDCT_BENCH_ABDOMEN: (50, 400), LDCT_BENCH_NEURO: (40, 80)}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Test and reference (row, column), from below air to above bone."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[:64, :72]
    reference = (-1200 + 50 * columns + 40 * np.sin(rows / 5)).astype(np.float32)
    return (reference + random.normal(0, 25, reference.shape)).astype(np.float32), reference


def windowed(image_hu: np.ndarray, level: float, width: float) -> np.ndarray:
    """LDCT-Bench's window in its own words: DICOM PS3.3 C.11.2.1.2.1 to [0, 1]."""
    lower, upper = level - 0.5 - (width - 1) / 2, level - 0.5 + (width - 1) / 2
    inside = (image_hu.astype(float) - (level - 0.5)) / (width - 1) + 0.5
    return np.where(image_hu <= lower, 0.0, np.where(image_hu > upper, 1.0, inside))


@pytest.mark.parametrize("protocol", LEVELS_AND_WIDTHS, ids=lambda protocol: protocol.name)
def test_ldct_bench_equals_scikit_image_on_its_windows(protocol: Protocol) -> None:
    test, reference = images()
    shown = [windowed(image, *LEVELS_AND_WIDTHS[protocol]) for image in (reference, test)]
    measured = fidelity(test, reference, protocol=protocol)
    assert measured.psnr_db[0] == pytest.approx(10 * np.log10(1 / mean_squared_error(*shown)), abs=1e-4)
    assert measured.ssim[0] == pytest.approx(structural_similarity(*shown, data_range=1.0), abs=2e-5)
    clipped = [np.clip(image.astype(float) + 1024, 0, 2924) for image in (reference, test)]
    assert measured.rmse_hu[0] == pytest.approx(np.sqrt(mean_squared_error(*clipped)), rel=1e-5)


def test_hu_frame_equals_scikit_image_with_its_defaults() -> None:
    test, reference = images()
    shown = [image.clip(-1024, 3071).astype(float) + 1024 for image in (reference, test)]
    measured = fidelity(test, reference, protocol=HU_FRAME)
    assert measured.psnr_db[0] == pytest.approx(peak_signal_noise_ratio(*shown, data_range=2000), abs=1e-4)
    assert measured.ssim[0] == pytest.approx(structural_similarity(*shown, data_range=2000), abs=2e-5)


def test_iscl_8bit_equals_scikit_image_on_grey_levels() -> None:
    """As the authors' evaluation: a reference of whole grey levels, a prediction that is clipped and not rounded."""
    test, reference = images()
    label, prediction = (np.clip((image.astype(float) + 1000) / 2000 * 255, 0, 255) for image in (reference, test))
    label = np.rint(label)
    measured = fidelity(test, reference, protocol=ISCL_8BIT)
    assert measured.psnr_db[0] == pytest.approx(peak_signal_noise_ratio(label, prediction, data_range=255), abs=1e-3)
    assert measured.ssim[0] == pytest.approx(structural_similarity(label, prediction, data_range=255), abs=2e-5)


def test_its_unknown_window_is_admitted() -> None:
    """Nobody may take these numbers for the paper's."""
    assert "the CT window of ISCL's authors is not known" in ISCL_8BIT.note


@pytest.mark.parametrize("name", PROTOCOLS)
def test_names_find_their_protocol(name: str) -> None:
    assert named_protocol(name) is PROTOCOLS[name]
    assert named_protocol(name).name == name


def test_an_unknown_name_is_told_the_nearest() -> None:
    for wrong, near in {
        "HU_BODY": "hu-body",
        "ldct-bench-abdomn": "ldct-bench-abdomen",
        "iscl8bit": "iscl-8bit",
    }.items():
        with pytest.raises(ConfigRefusal, match=f"did you mean {near}"):
            named_protocol(wrong)
    with pytest.raises(ConfigRefusal, match="give one of them"):
        named_protocol("?")


CHANGES: list[dict[str, object]] = [
    {"window": HUWindow(-1000, 3071)},
    {"window": None},
    {"data_range_hu": 4096},
    {"region": "frame"},
    {"ssim_kernel": "gaussian"},
    {"ssim_kernel_size": 11},
    {"error_window": None},
    {"reference_levels": 256},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_that_changes_a_number_changes_the_identity(change: dict[str, object]) -> None:
    other = dataclasses.replace(HU_BODY, **change)  # type: ignore[arg-type]
    assert other.identity != HU_BODY.identity
    assert other.identity.startswith("hu-body:")


def test_vif_settings_change_the_identity_and_body_parts_do_not() -> None:
    measured = dataclasses.replace(HU_FRAME, vif_window=HUWindow(-1024, 1900))
    assert len({HU_FRAME.identity, measured.identity, dataclasses.replace(measured, vif_truth="test").identity}) == 3
    assert dataclasses.replace(HU_FRAME, body_parts=("CHEST",)).identity == HU_FRAME.identity


def test_identities_stay_what_they_are() -> None:
    """They stand in files: a change here makes old numbers incomparable, and must be meant."""
    assert len({protocol.identity for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)
    same = dataclasses.replace(HU_BODY, data_range_hu=2000.0)
    assert same.identity == HU_BODY.identity


def test_body_parts() -> None:
    assert LDCT_BENCH_CHEST.fits("chest")
    assert LDCT_BENCH_CHEST.fits("")
    assert not LDCT_BENCH_CHEST.fits("ABDOMEN")
    assert HU_BODY.fits("ABDOMEN")


@pytest.mark.parametrize(
    "change",
    [
        {"data_range_hu": 0},
        {"data_range_hu": np.nan},
        {"ssim_kernel_size": 6},
        {"ssim_kernel_size": 1},
        {"reference_levels": 1},
        {"reference_levels": 256, "window": None},
        {"vif_window": HUWindow(-1024, 1900)},
    ],
    ids=str,
)
def test_protocols_that_measure_nothing_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigRefusal, match="hu-body"):
        dataclasses.replace(HU_BODY, **change)  # type: ignore[arg-type]
