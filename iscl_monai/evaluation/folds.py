"""Cross-validation over folds: yardsticks and trained bundles on the test of each, with the domain's protocol.

Of CT ``benchmark`` does this and more; here are micrographs and MR magnitude, which have neither bodies nor HU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.baselines.grey import YARDSTICKS, Yardstick
from iscl_monai.data import Datalist, ScanPair
from iscl_monai.data.pairs import check_same_shape
from iscl_monai.domain import Domain
from iscl_monai.errors import ConfigRefusal
from iscl_monai.inference import Denoiser
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.transforms import SamePlaced

Image = npt.NDArray[np.float32]
Method = Callable[[Image], Image]
INPUT = "input"


@dataclass(frozen=True)
class FoldScore:
    """A method on one fold.

    Attributes:
        fold: name of its folder.
        method: name.
        images: how many the means are over.
        psnr_db: mean of the images.
        ssim: likewise.
        mean_shift: likewise, in the domain's unit.
        strength: chosen on the validation; None: nothing to choose.
    """

    fold: str
    method: str
    images: int
    psnr_db: float
    ssim: float
    mean_shift: float
    strength: float | None = None


def score_folds(
    folds: Sequence[Path],
    *,
    domain: Domain,
    yardsticks: Sequence[str] = (),
    bundles: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Callable[[int], object] | None = None,
) -> list[FoldScore]:
    """Measure methods on the test of every fold.

    Args:
        folds: folders with a datalist each.
        domain: of the images.
        yardsticks: names of :data:`iscl_monai.baselines.grey.YARDSTICKS`; their strength is that of the best mean PSNR
            on the fold's validation.
        bundles: by name of a method where its bundles are, ``{fold}`` standing for the name of a fold's folder.
        device: for the bundles.
        progress: called with 1 after each method of a fold.

    Raises:
        Refusal: a name that there is not, a bundle that lacks, is of another domain or was trained on what it is tested
            on, or images that cannot be read.
    """
    for name in yardsticks:
        if name not in YARDSTICKS:
            raise ConfigRefusal(f"method {name!r}", allowed=", ".join(YARDSTICKS), cure="give one of them")
    scores: list[FoldScore] = []
    for folder in folds:
        datalist = Datalist.load(folder, domain)
        fold = _Fold(folder.name, datalist, domain)
        scores.append(fold.score(INPUT, lambda image: image))
        for name in yardsticks:
            scores.append(fold.score_yardstick(YARDSTICKS[name]))
            _count(progress)
        for name, place in (bundles or {}).items():
            scores.append(fold.score(name, _network(Path(place.format(fold=folder.name)), datalist, domain, device)))
            _count(progress)
    return scores


def leak_of(folds: Sequence[Path], domain: Domain) -> str:
    """What folds share between their roles, in words, where they say so themselves; empty for nothing that is seen."""
    gaps = {folder.name: Datalist.load(folder, domain).least_gap_nm for folder in folds}
    near = {name: gap for name, gap in gaps.items() if gap is not None and gap < domain.extent.least_gap}
    if not near:
        return ""
    return (
        f"LEAK: roles of {', '.join(near)} are {min(near.values()):g} nm apart, less than "
        f"{domain.extent.least_gap:g}: the pools show what the test shows, and figures are too good"
    )


class _Fold:
    """The images of one fold, in the domain's unit."""

    def __init__(self, name: str, datalist: Datalist, domain: Domain) -> None:
        if not datalist.test or not datalist.validation:
            raise ConfigRefusal(
                f"{datalist.folder} without validation or test",
                allowed="pairs in both",
                cure="make folds by python -m data_prep split-stack, with 4 blocks or more",
            )
        self.name, self.domain = name, domain
        self.validation = _images(datalist.validation, domain)
        self.test = _images(datalist.test, domain)

    def score_yardstick(self, yardstick: Yardstick) -> FoldScore:
        """Choose a strength on the validation, measure on the test."""
        width = self.domain.protocol.data_range_hu

        def at(strength: float) -> Method:
            return lambda image: yardstick.apply(image, strength, width)

        best = max(yardstick.strengths, key=lambda strength: self._measure(self.validation[:2], at(strength))[0])
        return self.score(yardstick.name, at(best), strength=best)

    def score(self, name: str, method: Method, *, strength: float | None = None) -> FoldScore:
        """Measure on the test."""
        psnr_db, ssim, shift = self._measure(self.test, method)
        return FoldScore(self.name, name, len(self.test), psnr_db, ssim, shift, strength)

    def _measure(self, pairs: Sequence[tuple[Image, Image]], method: Method) -> tuple[float, float, float]:
        means = [fidelity(method(noisy), clean, protocol=self.domain.protocol).mean() for noisy, clean in pairs]
        return (
            float(np.mean([one.psnr_db for one in means])),
            float(np.mean([one.ssim for one in means])),
            float(np.mean([one.mean_shift_hu for one in means])),
        )


def _images(pairs: Sequence[ScanPair], domain: Domain) -> list[tuple[Image, Image]]:
    """Noisy and clean (row, column) of all slices.

    Raises:
        DatalistRefusal: a pair of two shapes, or of two places.
    """
    keys = ("noisy", "clean")
    found = []
    for pair in pairs:
        placed = SamePlaced(keys)(domain.loader(keys)(pair.item()))
        loaded = {key: torch.as_tensor(placed[key]).as_subclass(torch.Tensor) for key in keys}
        check_same_shape(pair.item(), loaded)
        noisy, clean = (loaded[key][0] for key in keys)
        found += [(noisy[..., index].numpy(), clean[..., index].numpy()) for index in range(noisy.shape[-1])]
    return found


def _network(bundle: Path, datalist: Datalist, domain: Domain, device: str) -> Method:
    """A bundle's denoiser, if it was trained on this fold."""
    from iscl_monai.evaluation.training_record import check_fold

    check_fold(bundle, datalist.digest)
    denoiser = Denoiser.from_bundle(bundle, device=device, domain=domain.name, weights="trained")
    return lambda image: np.asarray(image + denoiser.change_mosaic(image), np.float32)


def _count(progress: Callable[[int], object] | None) -> None:
    if progress is not None:
        progress(1)


@dataclass(frozen=True)
class MethodMean:
    """A method over all folds: means, and the standard deviation over folds.

    Attributes:
        method: name.
        folds: how many.
        psnr_db: mean over folds.
        psnr_sd_db: over folds; 0 of a single one.
        gain_db: mean over folds of the PSNR less that of the input.
        ssim: mean over folds.
        mean_shift: likewise, in the domain's unit.
    """

    method: str
    folds: int
    psnr_db: float
    psnr_sd_db: float
    gain_db: float
    ssim: float
    mean_shift: float


def means(scores: Sequence[FoldScore]) -> list[MethodMean]:
    """One row per method, in the order in which they came."""
    before = {one.fold: one.psnr_db for one in scores if one.method == INPUT}
    rows = []
    for name in dict.fromkeys(one.method for one in scores):
        own = [one for one in scores if one.method == name]
        decibels = [one.psnr_db for one in own]
        rows.append(
            MethodMean(
                method=name,
                folds=len(own),
                psnr_db=float(np.mean(decibels)),
                psnr_sd_db=float(np.std(decibels, ddof=1)) if len(own) > 1 else 0.0,
                gain_db=float(np.mean([one.psnr_db - before[one.fold] for one in own])),
                ssim=float(np.mean([one.ssim for one in own])),
                mean_shift=float(np.mean([one.mean_shift for one in own])),
            )
        )
    return rows


def to_json(scores: Sequence[FoldScore], domain: Domain, leak: str = "") -> dict[str, Any]:
    """For programs; with the protocol of the numbers."""
    return {
        "leak": leak,
        "protocol": domain.protocol.identity,
        "unit": domain.unit,
        "scores": [asdict(one) for one in scores],
        "means": [asdict(one) for one in means(scores)],
    }


def to_markdown(scores: Sequence[FoldScore], domain: Domain) -> str:
    """A table for people."""
    lines = [
        f"Protocol {domain.protocol.identity}; shift in {domain.unit}.",
        "",
        "| method | folds | PSNR dB | gain dB | SSIM | mean shift |",
        "|---|---|---|---|---|---|",
    ]
    for one in means(scores):
        spread = f" ± {one.psnr_sd_db:.2f}" if one.folds > 1 else ""
        lines.append(
            f"| {one.method} | {one.folds} | {one.psnr_db:.2f}{spread} | {one.gain_db:+.2f} | {one.ssim:.3f} "
            f"| {one.mean_shift:+.2f} |"
        )
    return "\n".join(lines) + "\n"
