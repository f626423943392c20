"""The reconstruction kernel: what filtered backprojection multiplies the ramp with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ConfigRefusal

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A window over the ramp filter, linear between given points and zero beyond the last.

    Args:
        name: for people.
        frequencies_per_mm: ascending from 0.
        window: the factor at each frequency; 1 at frequency 0, so that Hounsfield units stay.

    Raises:
        ConfigRefusal: if the points do not ascend from 0, or the window does not begin with 1.
    """

    name: str
    frequencies_per_mm: tuple[float, ...]
    window: tuple[float, ...]

    def __post_init__(self) -> None:
        points, window = self.frequencies_per_mm, self.window
        ascending = len(points) == len(window) > 1 and points[0] == 0 and bool(np.all(np.diff(points) > 0))
        if not ascending or window[0] != 1 or not np.all(np.isfinite(window)) or min(window) < 0:
            raise ConfigRefusal(
                f"kernel {self.name!r} with frequencies {points} and window {window}",
                allowed="frequencies that ascend from 0, a window from 1 without negative values",
                cure="use hann(cutoff_per_mm) or ram_lak()",
            )

    def at(self, frequencies_per_mm: Floats) -> Floats:
        """The window's value at each frequency in cycles per mm."""
        return np.interp(frequencies_per_mm, self.frequencies_per_mm, self.window, right=0.0)

    @property
    def half_per_mm(self) -> float:
        """The lowest frequency at which the window has fallen to one half."""
        fine = np.linspace(0, self.frequencies_per_mm[-1], 2000)
        below = np.flatnonzero(self.at(fine) < 0.5)
        return float(fine[below[0]]) if below.size else self.frequencies_per_mm[-1]

    def noise_frequency_per_mm(self, nyquist_per_mm: float) -> float:
        """Mean frequency of the noise that is reconstructed with it from white noise.

        The noise power is ``f W(f)^2``; in a ring it counts ``f`` times, as in
        :meth:`iscl_monai.quality.spectrum.RadialSpectrum.mean_per_mm`.

        Args:
            nyquist_per_mm: the highest frequency of the image.
        """
        f = np.linspace(0, nyquist_per_mm, 500)
        ring = f**2 * self.at(f) ** 2
        return float((f * ring).sum() / ring.sum())


def ram_lak() -> Kernel:
    """The bare ramp, up to whatever the detector resolves."""
    return Kernel(name="Ram-Lak", frequencies_per_mm=(0.0, 1e3), window=(1.0, 1.0))


def hann(cutoff_per_mm: float) -> Kernel:
    """A Hann window that ends at ``cutoff_per_mm`` cycles per mm."""
    points = np.linspace(0, cutoff_per_mm, 65)
    window = 0.5 * (1 + np.cos(math.pi * points / cutoff_per_mm))
    return Kernel(
        name=f"Hann to {cutoff_per_mm:.3g}/mm", frequencies_per_mm=tuple(points.tolist()), window=tuple(window.tolist())
    )


def ramp(samples: int, pitch_mm: float) -> Floats:
    """The band-limited ramp filter.

    Args:
        samples: length of the padded rays, even.
        pitch_mm: distance of samples.

    Returns:
        Response (samples // 2 + 1,) in 1/mm at the frequencies of ``numpy.fft.rfft``. Source: Kak and Slaney,
        Principles of Computerized Tomographic Imaging, equation 61 in chapter 3: the ramp's exact samples in space,
        which keep the mean right where sampled frequencies would not.
    """
    distance = np.arange(samples)
    distance = np.minimum(distance, samples - distance)
    impulse = np.where(distance % 2 == 1, -1.0 / (math.pi * np.maximum(distance, 1)) ** 2, 0.0)
    impulse[0] = 0.25
    response: Floats = np.fft.rfft(impulse).real / pitch_mm
    return response
