"""Where a network computes, and how it is known that it has too little memory."""

from __future__ import annotations

import os

import torch

from iscl_monai.errors import ConfigRefusal


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
