"""The exports of ``python -m monai.bundle`` in the runtimes of others, compared in HU.

    python tests/release/check_exports.py

TorchScript in torch, ONNX in onnxruntime and OpenVINO; TensorRT as far as this machine has a GPU. Ends with 1 when an
answer is further than :data:`ALLOWED_HU` from torch's. Not part of the suite: an ONNX export takes half a minute.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export, trt_export

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "iscl"
CONFIG = BUNDLE / "configs" / "inference_volume.json"
SHAPE = (1, 1, 64, 96)
ALLOWED_HU = 0.01
HALF_WINDOW_HU = 1000


def noisy() -> np.ndarray:
    """A noisy body in air, in the range of the network."""
    chance = np.random.default_rng(3)
    image = chance.normal(-1000, 15, SHAPE)
    image[..., 8:-8, 8:-8] = chance.normal(40, 30, (*SHAPE[:2], SHAPE[2] - 16, SHAPE[3] - 16))
    return (image.clip(-1000, 1000) / HALF_WINDOW_HU).astype(np.float32)


def answers(folder: Path, places: dict[str, Any]) -> dict[str, Callable[[np.ndarray], Any]]:
    """Every export, loaded in its own runtime."""
    ckpt_export("network_def", filepath=str(folder / "model.ts"), **places)
    scripted = torch.jit.load(str(folder / "model.ts"))
    found: dict[str, Callable[[np.ndarray], Any]] = {"torchscript": lambda x: scripted(torch.from_numpy(x)).numpy()}
    onnx = str(folder / "model.onnx")
    onnx_export("network_def", filepath=onnx, use_trace=True, input_shape=list(SHAPE), **places)
    import onnxruntime
    import openvino

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found["onnxruntime"] = lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found["openvino"] = lambda x: compiled(x)[0]
    return found


def check(size: str) -> bool:
    """Whether all exports of a size of the released weights answer as torch does."""
    weights = str(BUNDLE / "models" / {"ensemble": "released.pt", "student": "student.pt"}[size])
    places = {
        "meta_file": str(BUNDLE / "configs" / "metadata.json"),
        "config_file": str(CONFIG),
        "ckpt_file": weights,
        "network_def": f"$networks.DenoisingNetwork.from_file({weights!r})",
        "device": "cpu",
    }
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.config.update({"network_def": places["network_def"], "device": "cpu"})
    parser.parse()
    network = parser.get_parsed_content("network").eval()
    good = True
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        expected = network(torch.from_numpy(noisy())).numpy()
        for name, answer in answers(Path(folder), places).items():
            difference_hu = float(np.abs(answer(noisy()) - expected).max()) * HALF_WINDOW_HU
            print(f"{size} {name}: {difference_hu:.5f} HU from torch", flush=True)
            good &= difference_hu <= ALLOWED_HU
        try:
            trt_export("network_def", filepath=f"{folder}/trt.ts", precision="fp32", input_shape=list(SHAPE), **places)
            print(f"{size} tensorrt: exported")
        except Exception as error:
            print(f"{size} tensorrt: {type(error).__name__}: {str(error).splitlines()[0]}")
    return good


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(0 if all([check("student"), check("ensemble")]) else 1)
