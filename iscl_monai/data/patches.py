"""The endless row of unpaired patches drawn from scans in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psutil
import torch.distributed
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from iscl_monai.data.degradation import Degradation
from iscl_monai.data.harvest import NoiseSource
from iscl_monai.data.scan import PoolScan
from iscl_monai.domain import CT, Domain
from iscl_monai.errors import ConfigRefusal, MemoryRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks.local import quiet_deviation
from iscl_monai.networks.slice_noise import loudest_noise, soft_tissue
from iscl_monai.quality.noise import SOFT_TISSUE_HU, noise_sigma_hu
from iscl_monai.transforms import RandDeadLeavesd, on_axes_of

MEMORY_SHARE = 0.8
BYTES_PER_VOXEL = 2.1  # int16 HU and the coarse body map; float32 only for scans with fractional HU


class UnpairedPatches(Dataset[dict[str, Tensor]]):
    """The n-th pair of unpaired patches is a pure function of seed and n, whoever computes it and when.

    So a resumed run continues with the patch it would have drawn, with any number of workers and of GPUs.

    Args:
        noisy: cached volumes of the noisy pool.
        clean: cached volumes of the clean pool.
        augmentation: draws and turns a patch; everything random in it is seeded here.
        windowing: HU to network range.
        seed: of the whole row.
        harvested: where noise comes from; with it each pair has a third image, ``harvested``: the clean patch with it,
            and a map, ``belongs``: the noise of the clean patch itself (0 with a ``Degradation``).
        painting: what may replace clean patches that noise is added to, a random transform of ``clean`` in HU.

    Raises:
        ConfigRefusal: painting without harvested noise.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        clean: Sequence[Mapping[str, Any]],
        *,
        augmentation: Compose,
        windowing: Any,
        seed: int = 0,
        harvested: NoiseSource | Degradation | None = None,
        painting: RandDeadLeavesd | None = None,
    ) -> None:
        self.pools = {"noisy": noisy, "clean": clean}
        self.chances = {name: _by_voxels(pool) for name, pool in self.pools.items() if pool}
        self.augmentation = augmentation
        self.windowing = windowing
        self.seed = seed
        if painting is not None and harvested is None:
            raise ConfigRefusal(
                "dead_leaves_share without harvested noise",
                allowed="with harvest_weight above 0, e.g. unet.json",
                cure="set dead_leaves_share to 0",
            )
        self.harvested = harvested
        self.painting = painting
        window = windowing.hu_window
        added = harvested is not None and not isinstance(harvested, Degradation)
        self.loudest = [scan_loudest_noise(scan, window) for scan in clean] if added else []

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The pair ``{"noisy", "clean"}``, each (1, rows, columns) in [-1, 1].

        With harvested noise ``harvested`` as well, and the noise of each place that belongs to the clean patch itself
        (``belongs``, as :func:`iscl_monai.networks.local.quiet_deviation` sees it).
        """
        if self.harvested is None:
            return {name: self._windowed(self._patch_hu(name, index)) for name in self.pools}
        rng = np.random.default_rng((self.seed, index, 2))
        if isinstance(self.harvested, Degradation):
            return self._degraded(self.harvested, index, rng)
        clean_hu, loudest = self._clean_hu(index)
        noise_hu = self.harvested.draw(clean_hu.shape[-1], rng)
        clean = self._windowed(clean_hu)
        return {
            "noisy": self._windowed(self._patch_hu("noisy", index)),
            "clean": clean,
            "harvested": self._windowed(clean_hu + noise_hu),
            "belongs": quiet_deviation(clean[None])[0].clamp_max(loudest),
        }

    def _degraded(self, rule: Degradation, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        clean_hu, noisy_hu = rule.pair(self._patch_hu("clean", index), rng)
        clean = self._windowed(clean_hu)
        return {
            "noisy": self._windowed(self._patch_hu("noisy", index)),
            "clean": clean,
            "harvested": self._windowed(noisy_hu),
            "belongs": torch.zeros_like(clean),
        }

    def _clean_hu(self, index: int) -> tuple[Tensor, float]:
        """A clean patch, and the noise that no place of it exceeds, in network units; 0 for a painted one."""
        clean_hu = self._patch_hu("clean", index)
        if self.painting is not None:
            self.painting.set_random_state(seed=int(np.random.default_rng((self.seed, index, 3)).integers(2**32)))
            painted: Tensor = self.painting({"clean": clean_hu})["clean"]
            if painted is not clean_hu:
                return painted, 0.0
        return clean_hu, self.loudest[self._drawn("clean", index)[0]]

    def _drawn(self, name: str, index: int) -> tuple[int, int]:
        """Which scan of a pool a patch is cut from, and the seed of everything random in it."""
        rng = np.random.default_rng((self.seed, index, list(self.pools).index(name)))
        return int(rng.choice(len(self.pools[name]), p=self.chances[name])), int(rng.integers(2**32))

    def _patch_hu(self, name: str, index: int) -> Tensor:
        scan, seed = self._drawn(name, index)
        self.augmentation.set_random_state(seed=seed)
        return plain_tensor(self.augmentation(self.pools[name][scan])["image"])

    def _windowed(self, patch_hu: Tensor) -> Tensor:
        return plain_tensor(self.windowing({"image": patch_hu})["image"]).contiguous()


def plain_tensor(image: Tensor) -> Tensor:
    """Without MONAI's metadata, which would slow down every operation of a network fed with it."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _by_voxels(pool: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Every part of every scan as often as any other: by slices, cropped scans would be learnt by heart."""
    voxels = np.array([scan["image"].shape[-3:].numel() for scan in pool], dtype=np.float64)
    return np.asarray(voxels / voxels.sum())


class RunSampler(Sampler[int]):
    """The indices of a whole run in one row, so that the place in it follows from the iteration number alone.

    With several processes (torch.distributed) every rank takes its part of each batch.

    Args:
        samples: per process over the whole run, i.e. epochs times iterations times batch size.
        done: samples that an earlier part of the run has used up; set by the checkpoint on resume.
    """

    def __init__(self, samples: int, *, done: int = 0) -> None:
        self.samples = samples
        self.done = done

    def __len__(self) -> int:
        """Samples that are left."""
        return self.samples - self.done

    def __iter__(self) -> Iterator[int]:
        """Global indices of this process's samples."""
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if spread else 1
        rank = torch.distributed.get_rank() if spread else 0
        return (index * ranks + rank for index in range(self.done, self.samples))


def cached(
    scans: Sequence[PoolScan], *, loading: Compose, num_workers: int = 2, progress: bool = True, domain: Domain = CT
) -> CacheDataset:
    """The volumes of a pool, read once and held in memory; the size is said before it is taken.

    Raises:
        MemoryRefusal: if it would take more than 80 % of the memory that is free.
        Refusal: whatever reading refuses.
    """
    items = [scan.item() for scan in scans]
    check_memory(items, domain)
    return CacheDataset(items, loading, num_workers=num_workers, copy_cache=False, progress=progress)


def check_memory(items: Sequence[Mapping[str, Any]], domain: Domain = CT) -> None:
    """Say how much memory the scans will take, and refuse what does not fit."""
    shapes = [domain.estimate_shape(item) for item in items]
    needed = int(BYTES_PER_VOXEL * sum(int(np.prod(shape)) for shape in shapes))
    free = psutil.virtual_memory().available
    slices = sum(shape[-1] for shape in shapes)
    print(f"caching {len(items)} scans, {slices} slices: {needed / 2**30:.2f} GiB of {free / 2**30:.1f} GiB free")
    if needed > MEMORY_SHARE * free:
        raise MemoryRefusal(
            f"{len(items)} scans need {needed / 2**30:.1f} GiB",
            allowed=f"{MEMORY_SHARE:.0%} of the {free / 2**30:.1f} GiB that are free",
            cure="train on fewer scans, give z_range_mm, or use a machine with more memory",
        )


def pool_noise_hu(pool: Sequence[Mapping[str, Any]]) -> float:
    """Noise of a cached pool in HU: the median over its scans of the noise in soft tissue."""
    scans = (torch.as_tensor(scan["image"])[0].permute(2, 0, 1) for scan in pool)
    return float(np.nanmedian([noise_sigma_hu(scan) for scan in scans]))


def pool_quiet_noise(pool: Sequence[Mapping[str, Any]], hu_window: HUWindow) -> float:
    """Noise of a cached pool in network units: the median of its scans' :func:`scan_quiet_noise`."""
    return float(np.nanmedian([scan_quiet_noise(scan, hu_window) for scan in pool]))


def scan_loudest_noise(scan: Mapping[str, Any], hu_window: HUWindow) -> float:
    """Noise that no place of a scan exceeds, in network units: the median of what deployed networks see in its slices.

    Args:
        scan: a cached volume.
        hu_window: what [-1, 1] means.

    Returns:
        The median of :func:`iscl_monai.networks.slice_noise.loudest_noise`; infinite where no slice has soft tissue to
        tell it from.
    """
    x = hu_window.to_network(_slices_of(scan))
    bounds = loudest_noise(x, quiet_deviation(x), *soft_tissue(hu_window))
    known = bounds[bounds.isfinite()]
    return float(known.median()) if known.numel() else float("inf")


def scan_quiet_noise(scan: Mapping[str, Any], hu_window: HUWindow) -> float:
    """Noise of a scan as :func:`iscl_monai.networks.local.quiet_deviation` sees it, in network units.

    Args:
        scan: a cached volume.
        hu_window: what [-1, 1] means.

    Returns:
        The median in soft tissue; NaN where there is none.
    """
    chosen = _slices_of(scan)
    lowest, highest = SOFT_TISSUE_HU
    noise = quiet_deviation(hu_window.to_network(chosen))[(chosen > lowest) & (chosen < highest)]
    return float(noise.median()) if noise.numel() else float("nan")


def _slices_of(scan: Mapping[str, Any], count: int = 6) -> Tensor:
    """About so many slices of a volume, HU (slice, 1, row, column)."""
    image = plain_tensor(torch.as_tensor(scan["image"]))
    return image[..., :: max(1, image.shape[-1] // count)].permute(3, 0, 1, 2).float()


class PairedPatches(UnpairedPatches):
    """Patches of a noisy scan and of its own reference at the same place, for the supervised twin.

    Args:
        noisy: cached volumes of the noisy pool.
        reference: their references, in the same order and of the same shapes.
        augmentation: as in :class:`UnpairedPatches`.
        windowing: as in :class:`UnpairedPatches`.
        seed: of the whole row.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        reference: Sequence[Mapping[str, Any]],
        *,
        augmentation: Compose,
        windowing: Any,
        seed: int = 0,
    ) -> None:
        placed = [on_axes_of(a["image"], b["image"]) for a, b in zip(noisy, reference, strict=True)]
        pairs = [
            {**scan, "image": torch.cat([plain_tensor(scan["image"]), plain_tensor(other)])}
            for scan, other in zip(noisy, placed, strict=True)
        ]
        super().__init__(pairs, [], augmentation=augmentation, windowing=windowing, seed=seed)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The pair ``{"noisy", "clean"}`` of one place, each (1, rows, columns) in [-1, 1]."""
        both = self._windowed(self._patch_hu("noisy", index))
        return {"noisy": both[:1], "clean": both[1:]}
