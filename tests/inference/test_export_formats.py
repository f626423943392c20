"""Files for other programs: each answers in its own runtime as the denoiser does, or does not appear."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from inference.test_openvino_runtime import image_hu, made, small_network
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.errors import ConfigRefusal, OutputRefusal
from iscl_monai.inference import export as exporting
from iscl_monai.inference.export import FORMATS, export

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "iscl"
Runtime = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each format; what two of them are made from takes a quarter of a minute, and is made once."""
    folder, programs = tmp_path_factory.mktemp("exported"), []

    def program(module: torch.nn.Module, example: torch.Tensor) -> object:
        if not programs:
            programs.append(make(module, example))
        return programs[0]

    make = exporting._program
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_program", program)
        return {
            kind: export(small_network(), folder / f"denoiser{FORMATS[kind].suffix}", kind).path for kind in FORMATS
        }


def in_onnxruntime(files: dict[str, Path]) -> Runtime:
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    return lambda image: session.run(["denoised_hu"], {"image_hu": image})[0]


def in_openvino(files: dict[str, Path]) -> Runtime:
    from iscl_monai.inference.openvino_runtime import imported

    openvino = imported()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(files["onnx"], "CPU", settings)
    return lambda image: model(image)[0]


def in_torch_export(files: dict[str, Path]) -> Runtime:
    module = torch.export.load(files["pt2"]).module()
    return lambda image: module(torch.from_numpy(image)).numpy()


def in_torchscript(files: dict[str, Path]) -> Runtime:
    module = torch.jit.load(files["torchscript"])
    return lambda image: module(torch.from_numpy(image)).numpy()


@pytest.mark.untraced  # torch.export takes a minute as it is, and three traced
@pytest.mark.parametrize(
    ("load", "tolerance_hu"),
    [(in_onnxruntime, 0.01), (in_openvino, 0.25), (in_torch_export, 0.01), (in_torchscript, 0.01)],
    ids=["onnxruntime", "openvino", "torch.export", "torchscript"],
)
def test_it_answers_as_the_denoiser_does(files: dict[str, Path], load: object, tolerance_hu: float) -> None:
    """Slices of any size, as many as there are, and each by itself."""
    runtime, denoiser = load(files), made()  # type: ignore[operator]
    for shape in ((48, 64), (45, 83)):
        images = np.stack([image_hu(*shape), image_hu(*shape)[::-1]])
        expected = images + denoiser.change_batch_hu(images)
        assert np.abs(expected - images).max() > 5
        np.testing.assert_allclose(runtime(images[:, None])[:, 0], expected, rtol=0, atol=tolerance_hu)


def test_one_that_answers_something_else_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = FORMATS["torchscript"]
    wrong = exporting.Format(right.suffix, right.make, lambda path: lambda image: image + 0.02)
    monkeypatch.setitem(FORMATS, "torchscript", wrong)
    monkeypatch.setattr(exporting.HounsfieldDenoiser, "forward", lambda self, image: 1.0 * image)
    with pytest.raises(ConfigRefusal, match=r"torchscript answers 0\.02 HU besides torch; allowed: 0\.01 HU"):
        export(small_network(), tmp_path / "denoiser.ts", "torchscript")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigRefusal, match="format 'coreml'; allowed: onnx, pt2, torchscript"):
        export(small_network(), tmp_path / "denoiser", "coreml")
    (tmp_path / "taken").touch()
    with pytest.raises(OutputRefusal, match="taken exists"):
        export(small_network(), tmp_path / "taken", "torchscript")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigRefusal, match=r'onnx without onnxruntime; .*"iscl-monai\[fast\]"'):
        export(small_network(), tmp_path / "denoiser.onnx", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_command_says_how_near_it_is(tmp_path: Path) -> None:
    place = tmp_path / "denoiser.ts"
    words = [
        "export",
        str(BUNDLE),
        str(place),
        "--format",
        "torchscript",
        "--weights",
        "student",
        "--target-noise",
        "0",
    ]
    result = CliRunner().invoke(app, words)
    assert result.stdout.splitlines() == [
        "largest difference to torch: 0 HU (allowed: 0.01 HU)",
        f"written: {place}",
    ], result.output
    image = torch.from_numpy(image_hu(50, 60))[None, None]
    plenty = torch.jit.load(place)(image) - image
    assert plenty[..., 30:].std() > 15  # all of the 30 HU of noise was asked for, not what is beyond 11
    assert CliRunner().invoke(app, words).exit_code == 2
