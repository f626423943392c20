"""Denoisers that cheat: an honest one (the oracle) that does one wrong thing more, each in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from evaluation.qa.denoisers import MIDDLE, Made, Oracle, Slice, fitted
from scipy import ndimage

from iscl_monai.baselines import classical
from iscl_monai.evaluation.qa.phantom import INSERTS, Phantom
from iscl_monai.quality.linearity import distance_mm_from

Cheat = Callable[["Denoised"], Slice]
CHEATS: dict[str, Cheat] = {}
"""By what it does, in words."""


@dataclass(frozen=True)
class World:
    """What a cheat may know.

    Args:
        phantom: what is scanned.
        oracle: the honest denoiser, who knows the truths.
        other_truths: those of another phantom, learnt by heart.
    """

    phantom: Phantom
    oracle: Oracle
    other_truths: Sequence[Slice] = ()


class Denoised:
    """One slice, honestly denoised, and what a cheat asks about it."""

    def __init__(self, world: World, image: Slice) -> None:
        self.world, self.image = world, image
        self.known = world.oracle.truth_of(image)
        self.truth = fitted(self.known, image.shape)
        self.output = world.oracle(image)
        self.module = world.oracle.module_of[id(self.known)]
        self.spacing_mm = world.phantom.spacing_mm
        # From the middle: a check of the field of view moves the border.
        self.rng = np.random.default_rng(abs(int(float(fitted(image, MIDDLE).sum()) * 1000)) % 2**32)

    @property
    def in_anatomy(self) -> bool:
        return self.module.startswith("anatomy") or self.module == "stack"

    @property
    def noisy(self) -> bool:
        return self.world.oracle.is_noisy(self.image)

    def blurred(self, sigma_mm: float, image: Slice | None = None) -> Slice:
        return ndimage.gaussian_filter(self.output if image is None else image, sigma_mm / self.spacing_mm)

    def lesions(self, largest_hu: float = np.inf, smallest_hu: float = 0.0, around_mm: float = 8.0) -> Slice:
        """Where lesions of such contrast lie, with a rim."""
        near = np.zeros(self.known.shape, bool)
        module = self.world.phantom.modules.get(self.module)
        for lesion in module.facts.get("lesions", ()) if module else ():
            if smallest_hu <= abs(lesion.get("kind_hu", lesion["contrast_hu"])) <= largest_hu:
                centre = tuple(lesion["centre_row_column"])
                near |= (
                    distance_mm_from(centre, near.shape, (self.spacing_mm,) * 2) < around_mm + lesion["diameter_mm"] / 2
                )
        return fitted(near, self.image.shape) > 0

    def signal(self) -> Slice:
        """What lesions add to this slice; nothing where it was taken out."""
        module = self.world.phantom.modules.get(self.module)
        if module is None or self.known is not module.truth_hu or self.module == INSERTS:
            return np.zeros(self.image.shape, np.float32)
        return fitted(module.signal_hu, self.image.shape)


def cheat(name: str) -> Callable[[Cheat], Cheat]:
    def named(function: Cheat) -> Cheat:
        CHEATS[name] = function
        return function

    return named


@cheat("copies its input")
def _(one: Denoised) -> Slice:
    return one.image


@cheat("blurs everything, sigma 2 mm")
def _(one: Denoised) -> Slice:
    return one.blurred(2.0, one.image)


@cheat("blurs anatomy, sigma 0.7 mm")
def _(one: Denoised) -> Slice:
    return one.blurred(0.7) if one.in_anatomy else one.output


@cheat("blurs the chest alone, sigma 0.7 mm")
def _(one: Denoised) -> Slice:
    return one.blurred(0.7) if one.module.startswith("anatomy_chest") else one.output


@cheat("blurs anatomy, sigma 1 mm")
def _(one: Denoised) -> Slice:
    return one.blurred(1.0) if one.in_anatomy else one.output


@cheat("blurs everything but lesions, sigma 3 mm")
def _(one: Denoised) -> Slice:
    return np.where(one.lesions(), one.output, one.blurred(3.0)) if one.in_anatomy else one.output


@cheat("lowers bone above 250 HU by 150 HU, in patients")
def _(one: Denoised) -> Slice:
    return one.output - 150.0 * (one.in_anatomy & (one.output > 250))


@cheat("invents a lesion per slice, -25 HU, 6 mm, each time elsewhere")
def _(one: Denoised) -> Slice:
    flat = ndimage.generic_gradient_magnitude(one.truth, ndimage.sobel) < 40
    places = np.argwhere(ndimage.binary_erosion(flat & (one.truth > -150), iterations=round(6 / one.spacing_mm)))
    if not one.in_anatomy or not len(places):
        return one.output
    centre = tuple(places[one.rng.integers(len(places))])
    return one.output - 25.0 * (distance_mm_from(centre, one.image.shape, (one.spacing_mm,) * 2) <= 3)


@cheat("doubles lesions of 10 HU")
def _(one: Denoised) -> Slice:
    return one.output + one.signal() * one.lesions(largest_hu=15)


@cheat("erases lesions of 10 HU")
def _(one: Denoised) -> Slice:
    return one.output - one.signal() * one.lesions(largest_hu=15)


@cheat("erases every third lesion of 20 HU and more")
def _(one: Denoised) -> Slice:
    near, count = ndimage.label(one.lesions(smallest_hu=15))
    return one.output - one.signal() * ((near > 0) & (near % 3 == 0)) if count else one.output


@cheat("knows another phantom by heart")
def _(one: Denoised) -> Slice:
    known = min(
        (fitted(truth, one.image.shape) for truth in one.world.other_truths),
        key=lambda truth: float(np.abs(truth - one.image)[::3, ::3].mean()),
    )
    return known + 0.3 * (one.image - known)


@cheat("removes calcifications below 3 mm")
def _(one: Denoised) -> Slice:
    if not one.in_anatomy:
        return one.output
    opened = ndimage.grey_opening(one.truth, round(4.5 / one.spacing_mm))
    spots = (one.truth - opened > 25) & (opened > -50) & (opened < 200)
    return one.output - np.where(spots & (one.truth < 1500), one.truth - opened, 0)


@cheat("raises fat by 15 HU")
def _(one: Denoised) -> Slice:
    return one.output + 15.0 * (one.in_anatomy & (abs(one.truth + 100) < 30))


@cheat("steps of 8 HU")
def _(one: Denoised) -> Slice:
    return 8 * np.round(one.output / 8)


@cheat("sharpens, unsharp mask of sigma 1.4 mm")
def _(one: Denoised) -> Slice:
    return one.output + 0.4 * (one.output - one.blurred(1.4))


@cheat("sharpens patients alone")
def _(one: Denoised) -> Slice:
    return one.output + 0.4 * one.in_anatomy * (one.output - one.blurred(1.4))


@cheat("adds a grid of 3 HU")
def _(one: Denoised) -> Slice:
    rows, columns = np.indices(one.image.shape)
    return one.output + 3.0 * np.cos(rows * 1.3) * np.cos(columns * 1.3) * 2**0.5


@cheat("adds rings of 3 HU")
def _(one: Denoised) -> Slice:
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in one.image.shape)
    return one.output + 3.0 * (np.sin(0.9 * np.hypot(rows[:, None], columns)) > 0.6)


@cheat("lowers contrast medium by 20 HU")
def _(one: Denoised) -> Slice:
    return one.output - 20.0 * (one.in_anatomy & (one.truth > 110) & (one.truth < 420))


@cheat("raises lung by 20 HU")
def _(one: Denoised) -> Slice:
    return one.output + 20.0 * (one.in_anatomy & (one.truth < -600) & (one.truth > -950))


@cheat("works at a quarter of the dose only")
def _(one: Denoised) -> Slice:
    ratio = float(fitted(one.image - one.truth, MIDDLE).std()) / one.world.oracle.full_hu[id(one.known)]
    return one.output if ratio < 1.05 or 1.9 < ratio < 2.1 else one.image


@cheat("strength changes from slice to slice")
def _(one: Denoised) -> Slice:
    return one.image + (0.4 + 0.6 * one.rng.integers(2)) * (one.output - one.image)


@cheat("brightness changes from slice to slice, 3 HU")
def _(one: Denoised) -> Slice:
    return one.output + float(one.rng.choice([-3, 3]))


@cheat("shifts by half a pixel")
def _(one: Denoised) -> Slice:
    return ndimage.shift(one.output, (0.5, 0), mode="nearest")


@cheat("smooths muscle only, sigma 3 mm")
def _(one: Denoised) -> Slice:
    muscle = one.in_anatomy & (abs(one.truth - 55) < 20)
    return np.where(muscle, one.blurred(3.0, np.where(muscle, one.output, 55)), one.output)


@cheat("denoises muscle only")
def _(one: Denoised) -> Slice:
    return np.where((not one.in_anatomy) | (abs(one.truth - 55) < 20), one.output, one.image)


@cheat("erases vessels in lung")
def _(one: Denoised) -> Slice:
    if not one.in_anatomy:
        return one.output
    lung = ndimage.binary_closing(one.truth < -600, iterations=round(6 / one.spacing_mm)) & (one.truth > -950)
    opened = ndimage.grey_opening(one.truth, round(9 / one.spacing_mm))
    return one.output - np.where(lung & (one.truth - opened > 60), one.truth - opened, 0)


@cheat("squeezes contrast around 60 HU by 8 %, in patients")
def _(one: Denoised) -> Slice:
    soft = one.in_anatomy & (abs(one.output - 60) < 200)
    return one.output - 0.08 * soft * (one.output - 60)


@cheat("raises dark and lowers bright within soft tissue by 6 HU")
def _(one: Denoised) -> Slice:
    soft = one.in_anatomy & (one.truth > -150) & (one.truth < 150)
    return one.output + soft * np.where(one.truth > 40, -6.0, 6.0)


@cheat("paints texture")
def _(one: Denoised) -> Slice:
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in one.image.shape)
    dots = np.cos(rows * 0.5)[:, None] * np.cos(columns * 0.5)
    return one.output + 12 * dots.clip(0.5) - 12 * 0.5


@cheat("replaces noise by noise of its own")
def _(one: Denoised) -> Slice:
    own = one.rng.normal(size=one.image.shape)
    return one.truth + ndimage.gaussian_filter(own, 1) * 3.5 * (one.image - one.truth).std() * 0.3


@cheat("gives back a 5 x 5 pixel median, in patients")
def _(one: Denoised) -> Slice:
    return ndimage.median_filter(one.image, 5) if one.in_anatomy else one.output


@cheat("leaves the size of the noise alone")
def _(one: Denoised) -> Slice:
    """Even in the noise: the half difference of outputs with the noise and its negative shows nothing of it."""
    size = np.abs(one.image - one.truth)
    even = size - one.blurred(8.0, size)
    noise_hu = float(fitted(one.output - one.truth, MIDDLE).std())
    return one.truth + even * noise_hu / float(fitted(even, MIDDLE).std())


@cheat("finds what looks like a disc in soft tissue, and doubles it")
def _(one: Denoised) -> Slice:
    """It knows nothing of this phantom, but that lesions that are put in are discs of some millimetres."""
    soft = (one.blurred(4.0) > -20) & (one.blurred(4.0) < 130)
    like_disc = one.blurred(1.5) - one.blurred(5.0)
    return one.output + np.where(one.in_anatomy & soft & (abs(like_disc) > 4), like_disc, 0)


class AveragesNeighbours(Made):
    """Averages neighbouring slices: seen as a denoiser of volumes; nothing else is wrong with it."""

    NAME = "averages neighbouring slices"

    def __init__(self, world: World) -> None:
        super().__init__(world.oracle)

    def change_volume_hu(self, volume_hu: np.ndarray) -> np.ndarray:
        changed = np.stack([self.denoised(image) for image in volume_hu])
        return ndimage.uniform_filter1d(changed, 3, axis=0, mode="nearest") - volume_hu


def cheating(world: World, name: str) -> Callable[[Slice], Slice]:
    """A cheat that is honest at full dose, or nearly, where it would be found out by the change alone."""

    def denoised(image: Slice) -> Slice:
        one = Denoised(world, image)
        wrong = one.noisy or "dose only" in name
        return np.asarray(CHEATS[name](one) if wrong else one.output, np.float32)

    return denoised


HONEST: dict[str, Cheat] = {}
"""Denoisers that cheat in nothing."""


def honest(name: str) -> Callable[[Cheat], Cheat]:
    def named(function: Cheat) -> Cheat:
        HONEST[name] = function
        return function

    return named


@honest("oracle: truth and a little noise")
def _(one: Denoised) -> Slice:
    return one.output


@honest("mild filter: a third of non-local means")
def _(one: Denoised) -> Slice:
    return one.image + 0.33 * classical("nlm").change_hu(one.image)


@honest("mild filter: 30 % of total variation")
def _(one: Denoised) -> Slice:
    return one.image + 0.3 * classical("tv").change_hu(one.image)
