"""What a denoiser computes on, and how much of its change is applied: checked before anything is loaded."""

from __future__ import annotations

import os

import torch

from iscl_monai.errors import ConfigRefusal

RUNTIMES = ("torch", "openvino", "auto")


def check_strength(strength: float) -> None:
    """Refuse a share that is none."""
    if not 0.0 <= strength <= 1.0:
        raise ConfigRefusal(f"strength={strength}", allowed="0 to 1", cure="0 changes nothing, 1 denoises fully")


def check_runtime(runtime: str) -> None:
    """Refuse a runtime that there is not."""
    if runtime not in RUNTIMES:
        raise ConfigRefusal(f"runtime {runtime!r}", allowed=", ".join(RUNTIMES), cure="choose one, or leave it out")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed because a device, or the host, has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or any torch device.

    Raises:
        ConfigRefusal: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigRefusal(f"device {name}", allowed="auto, cpu, cuda, cuda:1 ...", cure="choose one") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigRefusal(f"device {name}", allowed="auto, cpu, cuda, cuda:1 ...", cure="choose one")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigRefusal(
            f"device {name} without a usable GPU ({os.environ.get('CUDA_VISIBLE_DEVICES', 'no CUDA driver found')})",
            allowed="auto or cpu on this machine",
            cure="leave --device out",
        )
    return device
