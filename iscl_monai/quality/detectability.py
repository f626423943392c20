"""Can a lesion be told from its absence: the channelised Hotelling observer.

It works on ensembles of images and is right for any denoiser.

B. D. Gallas, H. H. Barrett, "Validating the use of channels to estimate the ideal linear observer", J. Opt. Soc.
Am. A 20(9), 2003, doi 10.1364/JOSAA.20.001725; AAPM TG-233, doi 10.1002/mp.13763; ICRU Report 54, 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.linearity import Floats, distance_mm_from, finite_array

Indices = npt.NDArray[np.intp]

SPLITS = 50
BOOTSTRAPS = 400
PERCENTILES_AND_MIDDLE = (2.5, 50, 97.5)


@dataclass(frozen=True, kw_only=True)
class Detectability:
    """What an observer trained on one half of the images reaches on the other.

    Args:
        d_prime: mean over random splits of the test scores' difference of means over their standard deviation. The
            sign is kept: without a signal it scatters around 0.
        low: lower end of its 95 % interval.
        high: upper end of it.
        auc: mean over the splits of the area under the ROC curve, 0.5 for guessing.
        images: how many of each kind there were; half of them train.
    """

    d_prime: float
    low: float
    high: float
    auc: float
    images: int


def laguerre_gauss(
    shape: tuple[int, int],
    *,
    count: int,
    width_mm: float,
    pixel_spacing_mm: tuple[float, float],
    centre: tuple[float, float] | None = None,
) -> Floats:
    """Laguerre-Gauss channels ``sqrt(2)/a exp(-pi r^2/a^2) L_p(2 pi r^2/a^2)``, p = 0 ... count-1.

    Gallas and Barrett, equation 20. Round, so for round signals in noise without preferred direction.

    Args:
        shape: (rows, columns) of the regions of interest.
        count: of the channels. Few images bear few: see :func:`hotelling`.
        width_mm: a; about 1.5 diameters of the signal suits a disc.
        pixel_spacing_mm: between rows, between columns.
        centre: (row, column) of the signal in the region; None: its middle.

    Returns:
        Shape (channel, row, column), each scaled to a sum of squares of 1.

    Raises:
        ImageRefusal: if count or width make no sense.
    """
    if count < 1 or not 0 < width_mm < np.inf:
        raise ImageRefusal(
            f"{count} channels of width {width_mm} mm",
            allowed="one channel or more, of a width above 0 mm",
            cure="start with 5 channels of 1.5 signal diameters",
        )
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if centre is None else centre
    argument = 2 * np.pi * (distance_mm_from(middle, shape, pixel_spacing_mm) / width_mm) ** 2
    channels = np.stack([np.exp(-argument / 2) * special.eval_laguerre(order, argument) for order in range(count)])
    scaled: Floats = channels / np.sqrt((channels**2).sum(axis=(1, 2), keepdims=True))
    return scaled


def hotelling(present_hu: npt.ArrayLike, absent_hu: npt.ArrayLike, channels: Floats, *, seed: int = 0) -> Detectability:
    """Detectability by a channelised Hotelling observer, trained and tested on different images.

    Channel outputs v = U'g; template w = K^-1 (mean v present - mean v absent), K the mean covariance of the two
    kinds, from one half of the images; scores t = w'v on the other half; d' = difference of mean scores over their
    standard deviation. Averaged over 50 random halvings. An observer tested on what it learnt from reports a d'
    where there is nothing; this one reports too little where images are few, as its template is noisy.

    The interval: percentiles over 400 halvings, each with the images of its test half drawn anew with replacement,
    about their median and narrowed by sqrt(2), as a half scatters that much more than the whole. Tried on Gaussian
    images it is as wide as a bootstrap of whole images that keeps copies of one image on one side, and 10 to 40 %
    wider than the true scatter. It says nothing of what d' lacks for want of images to learn from.

    Args:
        present_hu: regions with the signal, (image, row, column).
        absent_hu: as many without. Image k of both may hold the same noise: both go to the same half.
        channels: of :func:`laguerre_gauss`, (channel, row, column).
        seed: decides the halvings.

    Raises:
        ImageRefusal: if shapes differ, values are not finite, or the images are too few for so many channels: each
            half must give twice as many degrees of freedom as there are channels.
    """
    present, absent = (_channelled(images, channels) for images in (present_hu, absent_hu))
    images, count = present.shape
    trained = images // 2
    if len(absent) != images or 2 * (trained - 1) < 2 * count:
        raise ImageRefusal(
            f"{images} images with and {len(absent)} without signal for {count} channels",
            allowed=f"as many with as without, at least {2 * count + 2} of each",
            cure="use more images or fewer channels",
        )
    rng = np.random.default_rng(seed)
    halved = _Halvings(present, absent, *_halves(images, SPLITS, rng, redraw=False))
    d_prime, auc = float(halved.d_prime.mean()), float(halved.auc.mean())
    redrawn = _Halvings(present, absent, *_halves(images, BOOTSTRAPS, rng, redraw=True)).d_prime
    low, high = _interval(d_prime, redrawn)
    return Detectability(d_prime=d_prime, low=low, high=high, auc=auc, images=images)


def mean_d_prime(present: Floats, absent: Floats, *, seed: int = 0) -> float:
    """D' of :func:`hotelling` without its interval, which takes most of the time.

    Args:
        present: channel outputs of images with the signal, (image, channel).
        absent: of as many without.
        seed: decides the halvings.
    """
    halves = _halves(len(present), SPLITS, np.random.default_rng(seed), redraw=False)
    return float(_Halvings(present, absent, *halves).d_prime.mean())


def _interval(d_prime: float, redrawn: Floats) -> tuple[float, float]:
    low, middle, high = np.percentile(redrawn, PERCENTILES_AND_MIDDLE)
    if not np.isfinite([d_prime, low, high]).all():  # no noise: nothing scatters
        return d_prime, d_prime
    return float(d_prime + (low - middle) / np.sqrt(2)), float(d_prime + (high - middle) / np.sqrt(2))


def _channelled(images_hu: npt.ArrayLike, channels: Floats) -> Floats:
    """Channel outputs (image, channel)."""
    images = finite_array(images_hu, 3)
    if images.shape[1:] != channels.shape[1:]:
        raise ImageRefusal(
            f"regions of {images.shape[1:]} pixels, channels of {channels.shape[1:]}",
            allowed="regions and channels of one shape",
            cure="make the channels with the regions' shape",
        )
    outputs: Floats = images.reshape(len(images), -1) @ channels.reshape(len(channels), -1).T
    return outputs


def _halves(images: int, rounds: int, rng: np.random.Generator, *, redraw: bool) -> tuple[Indices, Indices]:
    """Images to learn from and to test on, (round, image), the test half drawn anew or as it is."""
    train, test = [], []
    for _ in range(rounds):
        order = rng.permutation(images)
        learnt, tested = order[: images // 2], order[images // 2 :]
        if redraw:
            # Never before halving: copies of one image would come to lie on both sides. One image alone has no spread.
            drawn = rng.choice(tested, len(tested))
            tested = drawn if (drawn != drawn[0]).any() else tested
        train.append(learnt)
        test.append(tested)
    return np.stack(train), np.stack(test)


class _Halvings:
    """Both measures of many halvings at once; they are small, and one by one NumPy's calls take most of the time.

    Args:
        present: channel outputs (image, channel).
        absent: as many without the signal.
        train: images to learn from, (round, image).
        test: images to test on, (round, image).
    """

    def __init__(self, present: Floats, absent: Floats, train: Indices, test: Indices) -> None:
        difference = present[train].mean(axis=1) - absent[train].mean(axis=1)
        learnt = [part[train] - part[train].mean(axis=1, keepdims=True) for part in (present, absent)]
        covariance = sum(part.transpose(0, 2, 1) @ part for part in learnt) / (2 * (train.shape[1] - 1))
        # Pseudo-inverse, so that channels without any noise (a denoiser's flat output) do not stop the measurement.
        rounding = np.finfo(float).eps * difference.shape[1]
        template = np.linalg.pinv(covariance, rcond=rounding, hermitian=True) @ difference[..., None]
        self.with_signal, self.without = ((part[test] @ template)[..., 0] for part in (present, absent))

    @property
    def d_prime(self) -> Floats:
        """Of each round; infinite where a difference scatters not at all."""
        spread = np.sqrt((self.with_signal.var(axis=1, ddof=1) + self.without.var(axis=1, ddof=1)) / 2)
        difference = self.with_signal.mean(axis=1) - self.without.mean(axis=1)
        without_spread = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
        d_prime: Floats = np.divide(difference, spread, out=without_spread, where=spread > 0)
        return d_prime

    @property
    def auc(self) -> Floats:
        """Share of pairs told right in each round, ties half (Mann and Whitney)."""
        count = self.with_signal.shape[1]
        ranks = stats.rankdata(np.concatenate([self.with_signal, self.without], axis=1), axis=1)[:, :count]
        least = count * (count + 1) / 2
        shares: Floats = (ranks.sum(axis=1) - least) / (count * self.without.shape[1])
        return shares
