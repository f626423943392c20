"""A trained denoiser, ready for use on slices in Hounsfield units."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iscl_monai.bundle import metadata_of
from iscl_monai.errors import CheckpointRefusal, ConfigRefusal, MemoryRefusal
from iscl_monai.inference.devices import check_runtime, check_strength, device_of, out_of_memory
from iscl_monai.inference.precision import InBfloat16, check_precision
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice, check_targets
from iscl_monai.networks import DenoisingNetwork, fold_normalisation
from iscl_monai.networks.denoising_network import checked_mode
from iscl_monai.released import weights_in

MOSAIC_TILE_PX = 1024
"""Side of the tiles of images that are larger."""


class Denoiser:
    """A network with its HU window, applied as a change to the original Hounsfield units.

    Each slice is worked on by itself, by one CPU thread or by the GPU: neighbours, batch sizes and the number of
    threads cannot change a result.

    Args:
        network: in evaluation mode; copied, folded and moved to the device.
        identity: what it is.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or any torch device.
        strength: share of the change that is applied, 0 (the input, bit for bit) to 1.
        inferer: how slices are cut, a MONAI inferer; None: not at all.
        precision: ``float32``, or ``bfloat16`` within the network (:class:`.precision.InBfloat16`), for GPUs.
        runtime: ``torch``; ``openvino``, which is faster on CPUs and the same within 0.01 HU
            (:class:`iscl_monai.inference.openvino_runtime.OpenVinoNetwork`); or ``auto``, that where it can be used.

    Raises:
        ConfigRefusal: a strength, device or runtime that does not exist, or a runtime that cannot be used here.

    Attributes:
        runtime: that computes, ``torch`` or ``openvino``.
        passed_over: why ``auto`` did not take an OpenVINO that is there, in words; ``""`` otherwise.
    """

    def __init__(
        self,
        network: DenoisingNetwork,
        *,
        identity: ModelIdentity,
        device: str | torch.device = "auto",
        strength: float = 1.0,
        inferer: Callable[..., Any] | None = None,
        runtime: str = "torch",
        precision: str = "float32",
    ) -> None:
        check_strength(strength)
        check_runtime(runtime)
        check_precision(precision, runtime)
        self.device = device_of(device)
        self.identity = identity
        self.strength = float(strength)
        self.hu_window = network.hu_window
        self.mode = network.mode
        self.kept = {"keep_mean_px": str(network.keep_mean_px), "statistics": network.statistics}
        if network.wanted_noise_hu is not None:
            self.kept["target_noise_hu"] = f"{network.wanted_noise_hu:.6g}"
        if network.wanted_dose is not None:
            self.kept["target_dose"] = f"{network.wanted_dose:.6g}"
        self.inferer = inferer
        self._sizes = (network.reach_px, network.stride_px)
        folded = fold_normalisation(copy.deepcopy(network).eval()).requires_grad_(False)
        # Channels last: up to twice as fast on CPUs here, and what tensor cores want.
        self.network: nn.Module = folded.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compute: Callable[..., Any] = self.network
        self.runtime, self.passed_over = "torch", ""
        if runtime != "torch":
            self._take_openvino(required=runtime == "openvino")
        self.precision = precision
        if precision != "float32":
            self._compute = InBfloat16(self.network, self.device)
            self._compute.check(self.hu_window.half_width)

    @classmethod
    def from_bundle(
        cls,
        bundle: Path | str,
        *,
        device: str | torch.device = "auto",
        mode: str = "ensemble",
        strength: float = 1.0,
        tile_px: int | None = None,
        weights: str | None = None,
        target_noise_hu: float | None = None,
        target_dose: float | None = None,
        runtime: str = "torch",
        precision: str = "float32",
        domain: str = "ct",
    ) -> Denoiser:
        """The denoiser of a bundle; sizes, HU window and blend come with its weights, and no code is run.

        Args:
            bundle: folder with ``models/`` and ``configs/metadata.json``, or of a training, with ``models/model.pt``.
            device: see the class.
            mode: ``ensemble``, ``generator`` or ``extractor``.
            strength: see the class.
            tile_px: side of tiles, for slices too large for the memory; None: whole slices.
            weights: ``trained``, ``ensemble`` or ``student`` (:func:`iscl_monai.released.weights_in`); None: what was
                trained in the bundle, or else the released ensemble.
            target_noise_hu: noise that images keep, for weights that can be told (:meth:`DenoisingNetwork.want`);
                0: none; None: that of the clean scans they were trained on.
            target_dose: the dose whose noise images keep, over their own, instead; 1 or more. 4: half the noise.
            runtime: see the class.
            precision: see the class.
            domain: of the images at hand; what is called HU is in its unit then.

        Raises:
            CheckpointRefusal: no weights there, not those that were released, or for another domain.
            ConfigRefusal: an unknown mode, strength, device, runtime or tile size, weights that cannot be told a noise,
                both a noise and a dose, or less than the image's own dose.
        """
        checked_mode(mode)
        file = weights_in(bundle, weights).path
        network = network_in(file, mode=mode, target_noise_hu=target_noise_hu, target_dose=target_dose, domain=domain)
        inferer = None if tile_px is None else _in_tiles(tile_px, network.reach_px, network.stride_px)
        identity = ModelIdentity.of_weights(file, metadata_of(bundle))
        return cls(
            network,
            identity=identity,
            device=device,
            strength=strength,
            inferer=inferer,
            runtime=runtime,
            precision=precision,
        )

    @property
    def parameters(self) -> dict[str, str]:
        """Every setting that can change a stored pixel, in words."""
        tile_px = getattr(self.inferer, "tile_px", None)
        settings = {"mode": self.mode, "strength": f"{self.strength:g}", "device": self.device.type} | self.kept
        if self.runtime != "torch":  # rounding differs, so what it makes is another object
            settings["runtime"] = self.runtime
        if self.precision != "float32":
            settings["precision"] = self.precision
        return settings if tile_px is None else {**settings, "tile": str(tile_px)}

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What denoising adds to a slice.

        Args:
            slice_hu: Hounsfield units (row, column), finite, 16 to 4096 pixels each way.

        Returns:
            float32 HU of the same shape; 0 outside the HU window and in air.

        Raises:
            ImageRefusal: another shape, or values that are not finite.
            MemoryRefusal: the device has too little memory for it.
        """
        check_slice(slice_hu)
        changed: npt.NDArray[np.float32] = self.change_batch_hu(np.asarray(slice_hu)[None])[0]
        return changed

    def change_batch_hu(self, slices_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What denoising adds to slices of one size, at once; for devices that are faster that way.

        Args:
            slices_hu: Hounsfield units (slice, row, column), of any series, each as for :meth:`change_hu`.

        Returns:
            float32 HU of the same shape.

        Raises:
            ImageRefusal: see :meth:`change_hu`.
            MemoryRefusal: the device has too little memory for so many.
        """
        return self.begin_batch_hu(slices_hu)()

    def begin_batch_hu(self, slices_hu: npt.NDArray[np.floating]) -> Callable[[], npt.NDArray[np.float32]]:
        """As :meth:`change_batch_hu`, without waiting for a GPU.

        Returns:
            What waits for the answer and gives it. Meanwhile the next batch may be begun: it is copied to the GPU, from
            memory that the system does not move, while this one is computed.

        Raises:
            ImageRefusal: see :meth:`change_hu`.
            MemoryRefusal: see :meth:`change_batch_hu`.
        """
        for slice_hu in slices_hu:
            check_slice(slice_hu)
        return self._begin(slices_hu)

    def change_mosaic(self, image: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """As :meth:`change_hu`, of an image of any size, in seamless tiles of :data:`MOSAIC_TILE_PX`.

        Args:
            image: (row, column), in the unit of the network's domain; or rows of one, with :attr:`reach_px` more of
                them on both sides, that begin at a multiple of :attr:`stride_px`.

        Raises:
            ConfigRefusal: normalisations that look at whole images, and more than a tile.
            MemoryRefusal: see :meth:`change_hu`.
        """
        tile_px = max(MOSAIC_TILE_PX, self._least_tile_px())
        if max(image.shape) <= tile_px:
            return self.change_hu(image)
        if self.kept["statistics"] != "frozen":
            raise ConfigRefusal(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels with statistics {self.kept['statistics']}",
                allowed=f"up to {tile_px} pixels each way, or frozen statistics",
                cure="train with --statistics frozen, or cut the image",
            )
        tiled = copy.copy(self)
        if tiled.inferer is None:
            tiled.inferer = _in_tiles(tile_px, *self._sizes)
        changed: npt.NDArray[np.float32] = tiled._begin(np.asarray(image)[None])()[0]
        return changed

    @property
    def reach_px(self) -> int:
        """How far away a pixel can change another one."""
        return self._sizes[0]

    @property
    def stride_px(self) -> int:
        """What tiles and parts of images begin at multiples of."""
        return self._sizes[1]

    def _begin(self, slices_hu: npt.NDArray[np.floating]) -> Callable[[], npt.NDArray[np.float32]]:
        if self.strength == 0:
            return lambda: np.zeros(slices_hu.shape, np.float32)
        with torch.inference_mode(), self._refusing_large(slices_hu.shape):
            held = torch.from_numpy(np.array(slices_hu, np.float32))[:, None]
            on_gpu = self.device.type == "cuda"
            image_hu = (held.pin_memory() if on_gpu else held).to(self.device, non_blocking=on_gpu)
            prediction = self._predict(self.hu_window.to_network(image_hu))
            change_hu = self.strength * self.hu_window.change_hu(image_hu, prediction)
            answer = change_hu[:, 0].float()
        return partial(self._answered, answer, held)

    def _answered(self, answer: Tensor, held: Tensor) -> npt.NDArray[np.float32]:
        """What a batch was changed by, on the host; its source is held so long, as a GPU may still be reading it."""
        with self._refusing_large(tuple(held[:, 0].shape)):
            changed: npt.NDArray[np.float32] = answer.cpu().numpy()
        if not np.isfinite(changed).all():
            raise CheckpointRefusal(
                f"weights {self.identity.weights_digest[:12]} answer NaN or infinity",
                allowed="finite answers",
                cure="use other weights: these are damaged, or were not trained to the end",
            )
        return changed

    def at_strength(self, strength: float) -> Denoiser:
        """The same denoiser, its network shared, at another strength.

        Raises:
            ConfigRefusal: a strength outside 0 to 1.
        """
        check_strength(strength)
        other = copy.copy(self)
        other.strength = float(strength)
        return other

    def _take_openvino(self, *, required: bool) -> None:
        from iscl_monai.inference import openvino_runtime  # half a second to import

        try:
            if self.device.type != "cpu":
                raise ConfigRefusal(
                    f"runtime openvino on {self.device.type}", allowed="cpu", cure="leave one of them out"
                )
            self._compute = openvino_runtime.OpenVinoNetwork(cast(DenoisingNetwork, self.network))
            self.runtime = "openvino"
        except ConfigRefusal as refusal:
            if required:
                raise
            self.passed_over = "" if openvino_runtime.is_missing() else f"torch computes: {refusal.came}"

    def _least_tile_px(self) -> int:
        from iscl_monai.inference.tiles import least_tile_px  # as below

        return least_tile_px(*self._sizes)

    def _predict(self, image: Tensor) -> Tensor:
        answer: Tensor = self._compute(image) if self.inferer is None else self.inferer(image, self._compute)
        return answer

    @contextmanager
    def _refusing_large(self, shape: tuple[int, ...]) -> Iterator[None]:
        """Say that the device has too little memory, which it may find out at any copy or operation."""
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # pieces that are too small for the next try
            raise MemoryRefusal(
                f"slices of {'x'.join(map(str, shape))} pixels ({str(error).splitlines()[0][:160]})",
                allowed="slices that fit the memory of the device",
                cure=f"give --workers 1 or --device cpu; if slices are larger, --tile {self._least_tile_px()}",
            ) from error


def network_in(
    file: Path,
    *,
    mode: str = "ensemble",
    target_noise_hu: float | None = None,
    target_dose: float | None = None,
    domain: str = "ct",
) -> DenoisingNetwork:
    """The network of a file of weights, which leaves the noise that is wanted; see :meth:`Denoiser.from_bundle`."""
    network = DenoisingNetwork.from_file(file, mode=mode, domain=domain)
    check_targets(target_noise_hu, target_dose)
    if target_noise_hu is not None or target_dose is not None:
        network.want(noise_hu=target_noise_hu or 0.0, dose=0.0 if target_dose is None else 1 / target_dose)
    return network


def _in_tiles(tile_px: int, reach_px: int, stride_px: int) -> Callable[..., Any]:
    from iscl_monai.inference.tiles import SeamlessInferer  # MONAI: seconds to import, for tiles alone

    return SeamlessInferer(tile_px=tile_px, reach_px=reach_px, stride_px=stride_px)
