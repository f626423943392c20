"""One process per GPU, as torchrun starts them."""

from __future__ import annotations

import os

import torch

from iscl_monai.errors import ConfigRefusal


def local_device() -> torch.device:
    """The device of this process under torchrun: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def join() -> None:
    """Join the process group that torchrun describes in the environment.

    Raises:
        ConfigRefusal: when not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ConfigRefusal(
            "multi_gpu_train.json without torchrun",
            allowed="torchrun --nproc_per_node=N -m monai.bundle run ...",
            cure="start it with torchrun, or leave multi_gpu_train.json out",
        )
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def spread(network: torch.nn.Module) -> torch.nn.Module:
    """A network whose gradients are averaged over all processes."""
    device = next(network.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)
