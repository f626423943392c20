"""Whole volumes for MONAI's own tools: a reader, and an inferer that takes Hounsfield units and gives them back.

``iscl-monai denoise`` goes slice by slice through files; MONAI Deploy, MONAI Label and the engines of MONAI hold a
volume as one tensor, and put an inferer between it and a network. Both apply the same :class:`.denoiser.Denoiser`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.inferer import Inferer
from monai.utils.type_conversion import convert_to_dst_type
from torch import Tensor, nn

from iscl_monai.dicom.monai_io import CTReader
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.devices import check_strength
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.parallel import in_order, useful_workers

Slices = npt.NDArray[np.float32]

UNNAMED = ModelIdentity("ISCL", "unknown", "")
"""What computes is a network that somebody else has loaded; no file is written here that would name it."""


class VolumeReader(CTReader):
    """A :class:`CTReader` whose volumes are (column, row, slice), as MONAI's own readers and NIfTI have them."""

    def get_data(self, img: Any) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Read the scan.

        Args:
            img: see :meth:`CTReader.get_data`.

        Returns:
            float32 HU (column, row, slice), of NIfTI in file order, and metadata with the affine of that order.

        Raises:
            Refusal: see :meth:`CTReader.get_data`.
        """
        image, meta = super().get_data(img)
        if str(meta["filename_or_obj"]).lower().endswith((".nii", ".nii.gz")):
            return image, meta
        for name in ("affine", "original_affine"):
            meta[name] = np.asarray(meta[name])[:, [1, 0, 2, 3]]
        rows_mm, columns_mm, slices_mm = meta["spacing"]
        meta["spacing"] = (columns_mm, rows_mm, slices_mm)
        meta["spatial_shape"] = np.array(meta["spatial_shape"])[[1, 0, 2]]
        return image.transpose(1, 0, 2), meta


class VolumeInferer(Inferer):
    """Hounsfield units in, denoised Hounsfield units out; slice by slice, as :func:`.slice_denoiser.denoise_volume`.

    Values beyond the window of the weights come back bit for bit. A volume of whole numbers comes back in whole
    numbers, as the stored integers of a scan do: bit for bit what ``iscl-monai denoise`` writes.

    Args:
        strength: share of the change that is applied, 0 to 1.
        spatial_dim: which spatial axis of a volume goes through its slices: 2 for (column, row, slice), as MONAI's
            readers give it; 0 for (slice, row, column).
        hu_window: what [-1, 1] means to the network; None: what the network itself knows.
        workers: slices worked on at the same time; None: as many as there are cores and memory for.

    Raises:
        ConfigRefusal: another axis or strength.
    """

    def __init__(
        self,
        *,
        strength: float = 1.0,
        spatial_dim: int = 2,
        hu_window: HUWindow | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        check_strength(strength)
        if spatial_dim not in (0, 2):
            raise ConfigRefusal(
                f"spatial_dim {spatial_dim}",
                allowed="2: volumes are (column, row, slice); 0: (slice, row, column)",
                cure="give 2 for whatever MONAI's readers have read",
            )
        self.strength = float(strength)
        self.spatial_dim = spatial_dim
        self.hu_window = hu_window
        self.workers = workers

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Denoise volumes, or single slices.

        Args:
            inputs: HU, (batch, 1, column, row, slice) or with ``spatial_dim`` 0 (batch, 1, slice, row, column); slices
                are (batch, 1, row, column). Finite; slices of 16 to 4096 pixels each way.
            network: a :class:`DenoisingNetwork`, or its export to TorchScript, in evaluation mode.
            args: none is known; ignored, as are keywords.
            kwargs: see ``args``.

        Returns:
            float32 HU of the same shape and device, with the metadata of the input.

        Raises:
            ImageRefusal: another shape, or values that are not finite.
            ConfigRefusal: a network that does not know its window, where none was given.
        """
        if inputs.ndim not in (4, 5) or inputs.shape[1] != 1:
            raise ImageRefusal(
                f"a tensor of shape {tuple(inputs.shape)}",
                allowed="(batch, 1, column, row, slice), or (batch, 1, row, column)",
                cure="add what is missing, e.g. volume[None, None]",
            )
        change_hu = self._change_of(network)
        device = _device_of(network, inputs.device)
        held = torch.as_tensor(inputs).detach().cpu().numpy()
        denoised = np.stack([self._denoise(volume[0], change_hu, device)[None] for volume in held])
        answer: Tensor = convert_to_dst_type(torch.from_numpy(denoised), dst=inputs, dtype=torch.float32)[0]
        return answer

    def _denoise(self, image: npt.NDArray[Any], change_hu: Callable[[Slices], Slices], device: torch.device) -> Slices:
        """One volume, or one slice; the same axes out."""
        in_slices = self._turned(image) if image.ndim == 3 else image[None]
        volume_hu = np.ascontiguousarray(in_slices, np.float32)
        check_slice(volume_hu[0])
        whole = bool((volume_hu == np.rint(volume_hu)).all())
        workers = self.workers or useful_workers(device.type, len(volume_hu), volume_hu.shape[1:])
        denoised = np.empty_like(volume_hu)
        for index, change in enumerate(in_order(volume_hu, change_hu, workers=workers)):
            denoised[index] = volume_hu[index] + (np.rint(change) if whole else change)
        return self._turned(denoised) if image.ndim == 3 else denoised[0]

    def _turned(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(column, row, slice) to (slice, row, column) and back."""
        return volume if self.spatial_dim == 0 else volume.transpose(2, 1, 0)

    def _change_of(self, network: Callable[..., Any]) -> Callable[[Slices], Slices]:
        """What a network adds to a slice."""
        if isinstance(network, DenoisingNetwork) and self.hu_window is None:
            device = next(network.parameters()).device
            return Denoiser(network, identity=UNNAMED, device=device, strength=self.strength).change_hu
        return partial(self._change_hu, network, self.hu_window or _window_of(network))

    def _change_hu(self, network: Callable[..., Any], window: HUWindow, slice_hu: Slices) -> Slices:
        check_slice(slice_hu)
        with torch.inference_mode():
            image_hu = torch.from_numpy(slice_hu)[None, None].to(_device_of(network, torch.device("cpu")))
            change_hu = self.strength * window.change_hu(image_hu, network(window.to_network(image_hu)))
        changed: Slices = change_hu[0, 0].float().cpu().numpy()
        return changed


def _device_of(network: Callable[..., Any], otherwise: torch.device) -> torch.device:
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    first = next(parameters, None)
    return otherwise if first is None else first.device


def _window_of(network: Callable[..., Any]) -> HUWindow:
    """The window of weights, which an export to TorchScript keeps, too."""
    try:
        return HUWindow(float(network.lower_hu), float(network.upper_hu))  # type: ignore[attr-defined]
    except AttributeError:
        raise ConfigRefusal(
            f"a {type(network).__name__} that does not say what [-1, 1] means in HU",
            allowed="a DenoisingNetwork, its export to TorchScript, or a hu_window",
            cure="give the inferer the hu_window that the network was trained with",
        ) from None
