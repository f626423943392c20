"""OpenVINO in torch's place: the same on real scans, other objects, refused where it is wrong or absent."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom.synthetic import Series
from real_data import real
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.inference import Denoiser, ModelIdentity, openvino_runtime
from iscl_monai.inference.openvino_runtime import OpenVinoNetwork
from iscl_monai.inference.series import derivation_of
from iscl_monai.inference.tiles import SeamlessInferer
from iscl_monai.networks import DenoisingNetwork, NoiseUNet, UNetGenerator

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "iscl"
SIDE = 128


def small_network() -> DenoisingNetwork:
    """Untrained U-Nets that take noise away."""
    torch.manual_seed(0)
    sizes = {"width": 4, "levels": 2}
    network = DenoisingNetwork(
        denoiser=UNetGenerator(**sizes), noise_extractor=NoiseUNet(**sizes), hu_window=HUWindow(-1000.0, 1000.0)
    )
    for part in (network.denoiser, network.noise_extractor):
        torch.nn.init.normal_(part.last.weight, std=0.1)
    return network.eval()


def made(**options: object) -> Denoiser:
    network = small_network()
    return Denoiser(network, identity=ModelIdentity("ISCL", "1", "0" * 64), device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def slow() -> Denoiser:
    return made()


@pytest.fixture(scope="module")
def fast() -> Denoiser:
    return made(runtime="openvino")


def image_hu(rows: int, columns: int) -> np.ndarray:
    noise = np.random.default_rng(rows).normal(40, 30, (rows, columns))
    noise[:, : columns // 3] = -900  # filled up: what is flat shows what rounding does
    return noise.astype(np.float32)


def test_the_released_ensemble_answers_the_same_on_a_scan() -> None:
    """A slice whose corners are filled up, and a piece of it of an odd size."""
    files = sorted(real("train/lidc_idri_0001").rglob("*.dcm"))
    hu = load_slice(read_header(files[len(files) // 2]))[0].hu()[: 2 * SIDE, : 2 * SIDE]
    torch_denoiser, denoiser = (
        Denoiser.from_bundle(BUNDLE, device="cpu", weights="ensemble", runtime=name) for name in ("torch", "openvino")
    )
    for piece in (hu, hu[:101, :131]):
        expected = torch_denoiser.change_hu(piece)
        assert expected.std() > 1
        np.testing.assert_allclose(denoiser.change_hu(piece), expected, rtol=0, atol=0.01)


def test_threads_change_nothing_and_shapes_come_and_go(fast: Denoiser, slow: Denoiser) -> None:
    images = [image_hu(48 + 8 * (number % 2), 64) for number in range(8)]
    alone = [fast.change_hu(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fast.change_hu, images))
    for image, one, other in zip(images, alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, slow.change_hu(image), rtol=0, atol=0.01)
    fast.change_hu(image_hu(40, 64))
    assert len(fast._compute._compiled) == openvino_runtime.COMPILED_SHAPES  # type: ignore[attr-defined]


def test_tiles_are_those_of_torch(slow: Denoiser) -> None:
    network = slow.network
    assert isinstance(network, DenoisingNetwork)
    side = SeamlessInferer(tile_px=336, reach_px=network.reach_px, stride_px=network.stride_px)
    tiled = made(runtime="openvino", inferer=side)
    image = image_hu(32, 400)
    np.testing.assert_allclose(tiled.change_hu(image), slow.change_hu(image), rtol=0, atol=0.01)
    assert tiled.parameters["tile"] == "336"


def test_what_it_makes_is_another_object(fast: Denoiser, slow: Denoiser) -> None:
    assert fast.parameters == slow.parameters | {"runtime": "openvino"}
    assert "runtime" not in slow.parameters
    derivations = [derivation_of(one) for one in (fast, slow)]
    assert len({one.uid("instance", "1.2.3") for one in derivations}) == 2
    assert "runtime openvino" in derivations[0].full_description()


def test_nobody_is_told_of_it(fast: Denoiser) -> None:
    """OpenVINO reports its imports to its maker, if it can."""
    assert "openvino" in sys.modules
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]


def test_it_is_refused_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime, "is_missing", lambda: True)
    with pytest.raises(ConfigRefusal, match=r"without OpenVINO; .* do: pip install \"iscl-monai\[fast\]\""):
        made(runtime="openvino")
    automatic = made(runtime="auto")
    assert (automatic.runtime, automatic.passed_over) == ("torch", "")


def test_a_runtime_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigRefusal, match="runtime 'tensorrt'; allowed: torch, openvino, auto"):
        made(runtime="tensorrt")


def test_one_that_answers_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path
) -> None:
    """By 0.02 HU, and only for one of its two networks."""
    answer = openvino_runtime._Compiled.answer
    monkeypatch.setattr(openvino_runtime._Compiled, "answer", lambda *given: answer(*given) + 2e-5)
    with pytest.raises(ConfigRefusal, match=r"OpenVINO 20\S+ differs from torch by 0\.02\d* HU on 64x64 pixels"):
        made(runtime="openvino")
    automatic = made(runtime="auto")
    assert automatic.runtime == "torch"
    assert "differs from torch" in automatic.passed_over
    (path,) = Series(slots=[0], rows=24, columns=20).write(tmp_path / "in")
    monkeypatch.setattr(OpenVinoNetwork, "_converted", lambda network: refuse())
    arguments = ["denoise", str(path), str(tmp_path / "out.dcm"), "--bundle", str(bundle), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--runtime", "auto"])
    assert result.exit_code == 0, result.output
    assert "warning: torch computes: OpenVINO cannot take this network (no such operation)" in result.stdout


def refuse() -> None:
    raise RuntimeError("no such operation")
