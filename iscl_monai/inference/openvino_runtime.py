"""OpenVINO in torch's place on a CPU: the same network in float32, proven against torch before it is used."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.extras import install_line
from iscl_monai.networks import DenoisingNetwork

TOLERANCE_HU = 0.01
"""Largest difference to torch that is taken for rounding: files hold whole HU, seldom tenths."""
CHECKED_PX = 64
COMPILED_SHAPES = 2
"""Kept at a time, as each takes memory; a series has one."""
LEVELS = (-1.0, -0.9, -0.85, 0.04, 0.2, 0.9)
FLAT = 2
NOISE = 0.02
"""Of the image that runtimes are compared on, in network units: two flat fillings, lung, soft tissue and bone."""


class OpenVinoNetwork:
    """A denoising network that OpenVINO computes, one model for each size of slices.

    The map of the noise stays torch's: it looks for the least deviation, and where an image is flat that is rounding,
    which moved values by 0.13 HU. It is not what takes the time.

    Every model is compared with torch on a test image before its first answer. Float32 throughout: OpenVINO would take
    bfloat16 where the processor has it, which moves values by several HU. One thread for each slice, as with torch, so
    the number of threads cannot change a result.

    Args:
        network: on the CPU, folded, in evaluation mode.

    Raises:
        ConfigRefusal: OpenVINO is not installed, cannot take the network, or answers something else than torch.

    Shape:
        As of :class:`iscl_monai.networks.DenoisingNetwork`.
    """

    def __init__(self, network: DenoisingNetwork) -> None:
        self.network = network
        self._openvino = imported()
        self._core = self._openvino.Core()
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[int, int], _Compiled] = OrderedDict()
        try:
            self._graph = self._converted()
        except (RuntimeError, NotImplementedError) as error:
            raise ConfigRefusal(
                f"OpenVINO cannot take this network ({' '.join(str(error).split())[:160]})",
                allowed="networks made of operations that it knows",
                cure="leave --runtime out: torch computes it",
            ) from None
        self._for_shape((CHECKED_PX, CHECKED_PX))

    def __call__(self, image: Tensor, loudest: Tensor | None = None) -> Tensor:
        """Denoise images, each by itself; see :meth:`iscl_monai.networks.DenoisingNetwork.forward`."""
        mirrored = self.network.mirrored(image)
        noise = self.network.noise_map(mirrored, loudest)
        compiled = self._for_shape((mirrored.shape[-2], mirrored.shape[-1]))
        answers = [compiled.answer(*one) for one in zip(mirrored[:, None], noise[:, None], strict=True)]
        return torch.cat(answers)[..., : image.shape[-2], : image.shape[-1]]

    def loudest(self, image: Tensor) -> Tensor:
        """See :meth:`iscl_monai.networks.DenoisingNetwork.loudest`."""
        return self.network.loudest(image)

    def _converted(self) -> Any:
        """The network as a graph for sizes that need no mirroring."""
        from openvino.frontend import FrontEndManager  # openvino.convert_model does the same in three times the time
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing says what it leaves out, and torch that it is to be abandoned
            image = noisy_steps(CHECKED_PX, CHECKED_PX)
            traced = torch.jit.trace(_AtKnownNoise(self.network), (image, image.abs()), check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # by a name, else it is gone before it is read
        return frontend.convert(frontend.load(decoder))

    def _for_shape(self, shape: tuple[int, int]) -> _Compiled:
        with self._lock:
            if shape not in self._compiled:
                compiled = self._compile(shape)
                self._check(compiled, shape)
                self._compiled[shape] = compiled
            self._compiled.move_to_end(shape)
            while len(self._compiled) > COMPILED_SHAPES:
                self._compiled.popitem(last=False)
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, int]) -> _Compiled:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        graph = self._graph.clone()
        graph.reshape({0: [1, 1, *shape], 1: [1, 1, *shape]})
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,  # as many slices at the same time, one thread each
            "ENABLE_CPU_PINNING": False,
        }
        return _Compiled(self._core.compile_model(graph, "CPU", settings))

    def _check(self, compiled: _Compiled, shape: tuple[int, int]) -> None:
        image = noisy_steps(*shape)
        with torch.inference_mode():
            noise = self.network.noise_map(image, None)
            difference = (self.network.denoised(image, noise) - compiled.answer(image, noise)).abs().max()
        difference_hu = float(difference) * self.network.hu_window.half_width
        if not difference_hu <= TOLERANCE_HU:
            raise ConfigRefusal(
                f"OpenVINO {self._openvino.__version__.partition('-')[0]} differs from torch by {difference_hu:.3g} HU"
                f" on {shape[0]}x{shape[1]} pixels",
                allowed=f"{TOLERANCE_HU} HU",
                cure="leave --runtime out: torch computes it",
            )


class _AtKnownNoise(nn.Module):
    """What OpenVINO computes: everything but the map of the noise."""

    def __init__(self, network: DenoisingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        return self.network.denoised(image, noise)


class _Compiled:
    """A model for one size, for several threads at the same time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._idle: deque[Any] = deque()

    def answer(self, image: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`iscl_monai.networks.DenoisingNetwork.denoised`; one image, (1, 1, rows, columns)."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.infer([np.ascontiguousarray(given.numpy()) for given in (image, noise)], share_inputs=True)
        answer = torch.from_numpy(np.array(request.get_output_tensor(0).data))  # the request keeps its own
        self._idle.append(request)
        return answer


def noisy_steps(rows: int, columns: int) -> Tensor:
    """What runtimes are compared on: columns of one level each, all but the first two noisy; (1, 1, rows, columns)."""
    level = torch.tensor(LEVELS).repeat_interleave(-(-columns // len(LEVELS)))[:columns]
    noise = torch.randn(1, 1, rows, columns, generator=torch.Generator().manual_seed(0))
    return (level + NOISE * (level >= LEVELS[FLAT]) * noise).clamp(-1.0, 1.0)


def is_missing() -> bool:
    """Whether OpenVINO is not installed; nothing is imported."""
    from importlib.util import find_spec

    return find_spec("openvino") is None


def imported() -> Any:
    """The package ``openvino``, which tells nobody that it was imported.

    Raises:
        ConfigRefusal: it is not installed.
    """
    if is_missing():
        raise ConfigRefusal(
            "--runtime openvino without OpenVINO", allowed="the extra 'fast' installed", cure=install_line("fast")
        )
    with _without_telemetry():
        import openvino

        return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO tells its maker of every import, unless the package that does so cannot be imported."""
    name = "openvino_telemetry"
    there = name in sys.modules
    if not there:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not there:
            del sys.modules[name]
