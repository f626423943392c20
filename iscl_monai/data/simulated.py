"""Noise of scans that have a reference: what a simulated scan holds more than the scan it was made from.

Harvested noise comes from flat soft tissue alone. A simulator puts noise everywhere: more through shoulders and hips,
streaks where few photons arrive. Wherever somebody has simulated scans, their noise can be added to clean patches of
other patients as well.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor

from iscl_monai.data.harvest import HarvestedNoise, NoiseSource
from iscl_monai.data.pairs import references
from iscl_monai.data.patches import cached
from iscl_monai.data.scan import PoolScan
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.transforms import RandBodyPatchd, on_axes_of

EIGHTHS = 8
"""Differences are kept in eighths of a HU."""
LEAST_HU = 1.0


class SimulatedNoise:
    """Noise of noisy scans over their references, for clean patches.

    Args:
        noisy: cached volumes that have a reference.
        references: theirs, in the same order and of the same shapes.
        strengths: least and largest factor, drawn evenly in its logarithm: many doses.
        quiet_share: share of the patches that get none.

    Raises:
        DatalistRefusal: no noisy scan has a reference, shapes differ, or all differences are nothing.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        references: Sequence[Mapping[str, Any]],
        *,
        strengths: tuple[float, float] = (0.5, 1.6),
        quiet_share: float = 0.1,
    ) -> None:
        fields = [_field(scan, reference) for scan, reference in zip(noisy, references, strict=True)]
        self.fields = [field for field in fields if field["noise"].float().std() > LEAST_HU * EIGHTHS]
        self.strengths = strengths
        self.quiet_share = quiet_share
        if not self.fields:
            raise DatalistRefusal(
                f"no simulated noise: {len(fields)} noisy scans with a reference, none of them noisier than it",
                allowed="noisy scans with 'reference' in the datalist, as `iscl-monai split` writes them",
                cure="simulate low doses (iscl-monai dose), or set simulated_share to 0",
            )

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        """Noise for a square patch, HU (1, size, size), float32."""
        field = self.fields[int(rng.integers(len(self.fields)))]
        cut = RandBodyPatchd("noise", patch_size=size)
        cut.set_random_state(seed=int(rng.integers(2**32)))
        if rng.random() < self.quiet_share:
            return torch.zeros(1, size, size)
        patch: Tensor = cut(field)["noise"]
        return patch * float(np.exp(rng.uniform(*np.log(self.strengths))) / EIGHTHS)


class MixedNoise:
    """Noise of either of two kinds.

    Args:
        first: where most comes from.
        second: where the rest comes from.
        share: of the second, 0 to 1.
    """

    def __init__(self, first: NoiseSource, second: NoiseSource, *, share: float) -> None:
        if not 0 <= share <= 1:
            raise ConfigRefusal(f"simulated_share={share}", allowed="0 to 1", cure="0.5 takes both alike")
        self.first, self.second, self.share = first, second, share

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        """Noise for a square patch, HU (1, size, size), float32."""
        source = self.second if rng.random() < self.share else self.first
        return source.draw(size, rng)


def noise_source(
    noisy: Sequence[Mapping[str, Any]],
    clean: Sequence[Mapping[str, Any]],
    scans: Sequence[PoolScan],
    loading: Compose,
    *,
    simulated_share: float = 0.0,
) -> NoiseSource:
    """Harvested noise, and as much simulated noise as is asked for.

    Args:
        noisy: cached volumes of the noisy pool.
        clean: cached volumes of the clean pool.
        scans: the noisy pool's entries of the datalist, in the order of ``noisy``.
        loading: reads the references.
        simulated_share: share of the patches with noise of scans that have a reference.

    Raises:
        Refusal: there is no such noise, or a reference cannot be read.
    """
    if not simulated_share:
        return HarvestedNoise(noisy, clean)
    places = [place for place, scan in enumerate(scans) if scan.reference]
    quiet = cached(references([scans[place] for place in places]), loading=loading)
    simulated = SimulatedNoise([noisy[place] for place in places], [quiet[place] for place in range(len(quiet))])
    if simulated_share == 1:  # where nothing is harvested, no scan need be flat anywhere
        return simulated
    return MixedNoise(HarvestedNoise(noisy, clean), simulated, share=simulated_share)


def _field(scan: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[Hashable, Any]:
    placed = on_axes_of(scan["image"], reference["image"])
    noisy, quiet = (torch.as_tensor(image).as_subclass(Tensor) for image in (scan["image"], placed))
    if noisy.shape != quiet.shape:
        raise DatalistRefusal(
            f"a noisy scan of {tuple(noisy.shape)} voxels with a reference of {tuple(quiet.shape)}",
            allowed="the same slices",
            cure="check 'reference' and 'z_range_mm' in the datalist",
        )
    eighths = (EIGHTHS * (noisy.float() - quiet.float())).round().clamp(-32768, 32767).to(torch.int16)
    return {"noise": eighths, "noise_body": scan["image_body"], "image_path": scan.get("image_path", "a noisy scan")}
