"""Noise that is left on purpose: as the weights say, or as the user does; and weights that cannot be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from dicom.synthetic import Series
from inference.tiny import METADATA
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark.denoisers import denoiser_of
from iscl_monai.evaluation.benchmark.methods import submission
from iscl_monai.hu import HUWindow
from iscl_monai.inference import Denoiser
from iscl_monai.networks import DenoisingNetwork, NoiseUNet, UNetGenerator

CLEAN_NOISE_HU = 12.0


@pytest.fixture(scope="module")
def unet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """U-Nets with some random weights, told the noise of their clean pool."""
    folder = tmp_path_factory.mktemp("unet")
    (folder / "models").mkdir()
    (folder / "configs").mkdir()
    shutil.copyfile(METADATA, folder / "configs" / "metadata.json")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        f, h = UNetGenerator(width=4), NoiseUNet(width=4)
        for network in (f, h):
            torch.nn.init.normal_(network.last.weight, std=0.1)
        made = DenoisingNetwork(denoiser=f, noise_extractor=h, hu_window=HUWindow(-1000, 1000))
    made.want(noise_hu=CLEAN_NOISE_HU)
    torch.save(made.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def noisy_hu() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return 40 + 30 * np.random.default_rng(2).standard_normal((64, 64))


def test_the_weights_say_what_noise_stays_unless_the_user_does(unet_bundle: Path, noisy_hu: np.ndarray) -> None:
    denoisers = [
        Denoiser.from_bundle(unet_bundle, device="cpu", target_noise_hu=target) for target in (0.0, None, 20.0, 100.0)
    ]
    removed = [float(denoiser.change_hu(noisy_hu).std()) for denoiser in denoisers]
    assert removed[0] > 1.2 * removed[1] > 1.2 * removed[2] > removed[3] == 0
    assert [denoiser.parameters["target_noise_hu"] for denoiser in denoisers] == ["0", "12", "20", "100"]


@pytest.mark.parametrize(("dose", "share"), [(1, 0.0), (4, 0.5), (16, 0.75)])
def test_the_noise_of_a_larger_dose_is_a_share_of_all(
    unet_bundle: Path, noisy_hu: np.ndarray, dose: float, share: float
) -> None:
    everything = Denoiser.from_bundle(unet_bundle, device="cpu", target_noise_hu=0.0).change_hu(noisy_hu)
    denoiser = Denoiser.from_bundle(unet_bundle, device="cpu", target_dose=dose)
    np.testing.assert_allclose(denoiser.change_hu(noisy_hu), share * everything, rtol=0, atol=0.01)
    assert denoiser.parameters["target_dose"] == str(dose)
    assert "target_noise_hu" not in denoiser.parameters


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"target_dose": 0.5}, "target dose 0.5; allowed: 1 to 10000 times"),
        ({"target_dose": float("nan")}, "target dose nan"),
        ({"target_dose": float("inf")}, "target dose inf"),
        ({"target_noise_hu": float("nan")}, "noise=nan"),
        ({"target_dose": 4.0, "target_noise_hu": 10.0}, "allowed: one of the two"),
    ],
)
def test_doses_that_make_no_sense_are_refused(unet_bundle: Path, wanted: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigRefusal, match=words):
        Denoiser.from_bundle(unet_bundle, device="cpu", **wanted)


def test_two_noises_that_differ_are_told_apart(unet_bundle: Path) -> None:
    """By these words derived images get their UIDs."""
    wanted = [{"target_noise_hu": 10.06}, {"target_noise_hu": 10.14}, {"target_dose": 1.002}, {"target_dose": 1.004}]
    words = [str(Denoiser.from_bundle(unet_bundle, device="cpu", **one).parameters) for one in wanted]
    assert len(set(words)) == 4


def test_what_was_left_on_purpose_stands_in_the_images(unet_bundle: Path, tmp_path: Path) -> None:
    Series(slots=range(2), rows=32, columns=32).write(tmp_path / "in")
    uids = set()
    for target in ("15", "20"):
        options = ["--bundle", str(unet_bundle), "--device", "cpu", "--target-noise", target]
        done = CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / target), *options])
        assert done.exit_code == 0, done.output
        header = pydicom.dcmread(next((tmp_path / target).rglob("*.dcm")), stop_before_pixels=True)
        assert f"target_noise_hu {target}" in header.DerivationDescription
        uids.add(header.SeriesInstanceUID)
    assert len(uids) == 2
    options = ["--bundle", str(unet_bundle), "--device", "cpu", "--target-dose", "4"]
    assert CliRunner().invoke(app, ["denoise", str(tmp_path / "in"), str(tmp_path / "dose"), *options]).exit_code == 0
    header = pydicom.dcmread(next((tmp_path / "dose").rglob("*.dcm")), stop_before_pixels=True)
    assert "target_dose 4" in header.DerivationDescription


def test_a_scan_is_measured_at_the_noise_that_is_asked_for(unet_bundle: Path, tmp_path: Path) -> None:
    Series(slots=range(2), rows=64, columns=64).write(tmp_path / "low")
    left = {}
    for target in ("0", "100"):
        options = ["--bundle", str(unet_bundle), "--device", "cpu", "--target-noise", target]
        out = tmp_path / target
        done = CliRunner().invoke(
            app, ["evaluate", "--no-reference", str(tmp_path / "low"), *options, "--out", str(out)]
        )
        assert done.exit_code == 0, done.output
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["made_with"]["target_noise_hu"] == target
        left[target] = metrics
    assert left["0"] != left["100"]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "denoised", "reference", "--target-noise", "5"],
        ["evaluate", "D", "--method", "tv", "--target-noise", "5"],
        ["evaluate", "D", "--denoised", "theirs", "--target-noise", "5"],
        ["qa", "--method", "tv", "--target-noise", "5"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_noise_for_what_cannot_be_told_is_refused(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "--target-noise with" in done.output


def test_weights_that_cannot_be_told_are_refused(bundle: Path) -> None:
    with pytest.raises(ConfigRefusal, match="a wanted noise for a Generator"):
        Denoiser.from_bundle(bundle, device="cpu", target_noise_hu=10.0)
    assert "target_noise_hu" not in Denoiser.from_bundle(bundle, device="cpu").parameters


def test_a_benchmark_asks_for_all_that_the_weights_call_noise(
    unet_bundle: Path, bundle: Path, noisy_hu: np.ndarray
) -> None:
    """Else a method would be judged at its deployment's noise, and not be there at 70 % less."""
    compared = denoiser_of(submission(f"theirs={unet_bundle}"), None, device="cpu")
    whole = Denoiser.from_bundle(unet_bundle, device="cpu", target_noise_hu=0.0)
    assert np.array_equal(compared.change_hu(noisy_hu), whole.change_hu(noisy_hu))
    assert "target_noise_hu" not in denoiser_of(submission(f"theirs={bundle}"), None, device="cpu").parameters
