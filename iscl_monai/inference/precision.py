"""Fewer bits per number within the network, for GPUs, checked in Hounsfield units before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iscl_monai.errors import ConfigRefusal

PRECISIONS = ("float32", "bfloat16")
CHECKED_PX = (256, 256)
LARGEST_DIFFERENCE_HU = 8.0
"""Of bfloat16 to float32 in any pixel of the image of the check; the released weights differ by 1 to 2 HU on scans."""


class InBfloat16:
    """A network whose convolutions have eight bits of mantissa; what goes in and comes out are 32-bit numbers.

    Args:
        network: network values in, network values out.
        device: where it computes.
    """

    def __init__(self, network: Callable[..., Any], device: torch.device) -> None:
        self.network = network
        self.device = device

    def __call__(self, image: Tensor, **options: Any) -> Tensor:
        """As the network."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            answer: Tensor = self.network(image, **options)
        return answer.float()

    def loudest(self, image: Tensor) -> Tensor:
        """As that of the network (:meth:`iscl_monai.networks.DenoisingNetwork.loudest`), in 32 bits."""
        noise: Tensor = self.network.loudest(image)  # type: ignore[attr-defined]
        return noise

    def check(self, half_width_hu: float) -> float:
        """Refuse weights that do not stand it.

        Args:
            half_width_hu: HU of a network value of 1, :attr:`iscl_monai.hu.HUWindow.half_width`.

        Returns:
            The largest difference to 32 bits, HU, on :func:`.openvino_runtime.noisy_steps`.

        Raises:
            ConfigRefusal: more than :data:`LARGEST_DIFFERENCE_HU`.
        """
        from iscl_monai.inference.openvino_runtime import noisy_steps  # not needed otherwise

        image = noisy_steps(*CHECKED_PX).to(self.device)
        with torch.inference_mode():
            difference_hu = float((self(image) - self.network(image)).abs().max()) * half_width_hu
        if not difference_hu <= LARGEST_DIFFERENCE_HU:
            raise ConfigRefusal(
                f"precision bfloat16, which differs from float32 by {difference_hu:.3g} HU with these weights",
                allowed=f"{LARGEST_DIFFERENCE_HU:g} HU",
                cure="leave --precision out",
            )
        return difference_hu


def check_precision(precision: str, runtime: str) -> None:
    """Refuse a precision that does not exist, or that a runtime does not have.

    Raises:
        ConfigRefusal: it does not, or has not.
    """
    if precision not in PRECISIONS:
        raise ConfigRefusal(f"precision {precision!r}", allowed=", ".join(PRECISIONS), cure="choose one")
    if precision != "float32" and runtime != "torch":
        raise ConfigRefusal(f"precision {precision} with runtime {runtime}", allowed="torch", cure="leave one out")
