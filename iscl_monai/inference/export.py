"""The denoiser as one file for other programs, held against torch before it appears."""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from iscl_monai.durable import check_free, whole_file
from iscl_monai.errors import ConfigRefusal
from iscl_monai.extras import install_line
from iscl_monai.inference.slice_denoiser import LARGEST_PX, SMALLEST_PX
from iscl_monai.networks import DenoisingNetwork, fold_normalisation

TOLERANCE_HU = 0.01
"""Largest difference to torch that is taken for rounding."""
INPUT, OUTPUT = "image_hu", "denoised_hu"
TRACED_SHAPE = (2, 1, 40, 56)
CHECKED_SHAPES = ((1, 1, 64, 64), (3, 1, 37, 50), (2, 1, 96, 41))
"""None of them is what was traced; sizes that no stride divides, too."""
LEVELS_HU = (-1000.0, -900.0, -850.0, 40.0, 200.0, 1300.0)
FLAT = 2
NOISE_HU = 20.0
"""Of the images that are compared: two flat fillings, lung, soft tissue, and bone beyond a window."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        suffix: of its name.
        make: its bytes, of a network and an example.
        load: a function from HU to HU, of a file.
    """

    suffix: str
    make: Callable[[nn.Module, Tensor], bytes]
    load: Callable[[Path], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        difference_hu: largest to torch that was seen.
    """

    path: Path
    difference_hu: float


class HounsfieldDenoiser(nn.Module):
    """Hounsfield units in and out, so that nobody needs to know the window of the weights.

    As :meth:`iscl_monai.inference.denoiser.Denoiser.change_hu` at full strength, added to the image.

    Args:
        network: in evaluation mode, folded.

    Shape:
        (batch, 1, rows, columns), 16 to 4096 pixels each way, float32.
    """

    def __init__(self, network: DenoisingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_hu: Tensor) -> Tensor:
        """Denoise whole slices."""
        window, stride = self.network.hu_window, self.network.stride_px
        rows, columns = image_hu.shape[-2], image_hu.shape[-1]
        mirrored = _mirrored(_mirrored(window.to_network(image_hu), -2, stride), -1, stride)
        answer = self.network.denoised(mirrored, self.network.noise_map(mirrored, None))
        for axis, length in ((-2, rows), (-1, columns)):  # a slice would ask whether there is so much of it
            answer = answer.index_select(axis, torch.arange(length, device=answer.device))
        return window.apply_change(image_hu, answer)


def _mirrored(image: Tensor, axis: int, stride: int) -> Tensor:
    """As :meth:`DenoisingNetwork.mirrored` along one axis, without asking whether it is needed: files have any size."""
    length = image.shape[axis]
    place = torch.arange((length + stride - 1) // stride * stride, device=image.device)
    return image.index_select(axis, torch.where(place < length, place, 2 * length - 1 - place))


def export(network: DenoisingNetwork, destination: Path, kind: str) -> Exported:
    """Write a network as a file for any number of slices of any size.

    Args:
        network: in evaluation mode, on the CPU; left as it is.
        destination: file to make; appears only when it has answered as torch does, at three shapes.
        kind: a key of :data:`FORMATS`.

    Raises:
        ConfigRefusal: an unknown format, an extra that is not installed, a network that the format cannot hold, or one
            that answers something else than torch.
        OutputRefusal: a destination that exists or cannot be written.
    """
    if kind not in FORMATS:
        raise ConfigRefusal(f"format {kind!r}", allowed=", ".join(FORMATS), cure="choose one")
    check_free(destination)
    chosen = FORMATS[kind]
    folded = cast(DenoisingNetwork, fold_normalisation(copy.deepcopy(network)))
    module = HounsfieldDenoiser(folded).eval().requires_grad_(False)
    with _quiet(), torch.no_grad():
        content = _made(chosen, module, kind)
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / f"trial{chosen.suffix}"
            trial.write_bytes(content)
            difference_hu = _largest_difference(module, chosen.load(trial))
    if not difference_hu <= TOLERANCE_HU:
        raise ConfigRefusal(
            f"{kind} answers {difference_hu:.3g} HU besides torch",
            allowed=f"{TOLERANCE_HU:g} HU",
            cure=f"choose another format: {', '.join(FORMATS)}",
        )
    with whole_file(destination) as file:
        file.write(content)
    return Exported(destination, difference_hu)


def _made(chosen: Format, module: nn.Module, kind: str) -> bytes:
    try:
        return chosen.make(module, example_hu(TRACED_SHAPE))
    except ModuleNotFoundError as error:
        raise ConfigRefusal(
            f"{kind} without {error.name}", allowed="the extra 'fast' installed", cure=install_line("fast")
        ) from None
    except ConfigRefusal:
        raise
    except Exception as error:  # torch raises nearly anything for what it cannot export
        raise ConfigRefusal(
            f"this network as {kind} ({' '.join(str(error).split())[:160]})",
            allowed="networks made of operations that the format has",
            cure="choose --format torchscript",
        ) from error


def _largest_difference(module: nn.Module, loaded: Callable[[Tensor], Tensor]) -> float:
    images = [example_hu(shape) for shape in CHECKED_SHAPES]
    return max(float((loaded(image) - module(image)).abs().max()) for image in images)


def example_hu(shape: tuple[int, int, int, int]) -> Tensor:
    """Columns of one level each, all but the first two noisy; the same every time."""
    columns = shape[-1]
    level = torch.tensor(LEVELS_HU).repeat_interleave(-(-columns // len(LEVELS_HU)))[:columns]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return level + NOISE_HU * (level >= LEVELS_HU[FLAT]) * noise


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of its own future, and of sizes that tracing takes for constants: they are checked."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# --- the formats -------------------------------------------------------------------------------------


def _program(module: nn.Module, example: Tensor) -> Any:
    side = {"min": SMALLEST_PX, "max": LARGEST_PX}
    sizes = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("rows", **side)}
    sizes[3] = torch.export.Dim("columns", **side)
    return torch.export.export(module, (example,), dynamic_shapes={INPUT: sizes})


def _make_pt2(module: nn.Module, example: Tensor) -> bytes:
    content = io.BytesIO()
    torch.export.save(_program(module, example), content)
    return content.getvalue()


def _load_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


def _make_torchscript(module: nn.Module, example: Tensor) -> bytes:
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (example,), check_trace=False), content)  # type: ignore[no-untyped-call]
    return content.getvalue()


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: Callable[[Tensor], Tensor] = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return loaded


def _make_onnx(module: nn.Module, example: Tensor) -> bytes:
    import onnxruntime  # noqa: F401 - proves the file, and is asked for before the work

    exported = torch.onnx.export(
        _program(module, example), (), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
    )
    assert exported is not None
    content: bytes = exported.model_proto.SerializeToString()
    return content


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])


FORMATS = {
    "onnx": Format(".onnx", _make_onnx, _load_onnx),
    "pt2": Format(".pt2", _make_pt2, _load_pt2),
    "torchscript": Format(".ts", _make_torchscript, _load_torchscript),
}
