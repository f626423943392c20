"""What a scan's header says about how its noise came about: kernel, tube current, voltage, thickness."""

from __future__ import annotations

import re
from dataclasses import dataclass

from iscl_monai.scanner.kernel import Kernel, hann

_HALF_PER_MM = (  # kernel names, and where a Hann window of the same mean noise frequency falls to a half
    (re.compile(r"SOFT|SMOOTH|SM\b|FC0[1-5]|\bA\b"), 0.30),
    (re.compile(r"STANDARD|STD|STND|FC(0[6-9]|1\d)|\bU?[AB]\b|AB[45]0"), 0.41),
    (re.compile(r"DETAIL|CHEST|FC2\d|\bC\b"), 0.45),
    (re.compile(r"LUNG|FC5\d|\bD\b|\bY[AB]?\b|\bL\b"), 0.55),
    (re.compile(r"BONE|EDGE|ULTRA|FC(3|8)\d|\bE\b"), 0.65),
)
_SIEMENS = re.compile(r"\b[A-Z][A-Za-z]?(\d{2})[a-z]?\b")
_UNKNOWN_HALF_PER_MM = 0.41
_TOLERANCE = 1.8
_PLAUSIBLE_PER_MM = (0.12, 0.75)
"""Mean noise frequency of the softest and the sharpest kernels of body CT."""

_PHOTONS = 450.0
"""Per mAs, mm of thickness and mm of cell at 120 kV: the middle of what series with neighbours were fitted to."""
_KV_EXPONENT = 2.5
PHOTON_TOLERANCE = 5.0
"""Factor by which scanners, pitches and filters differ around that."""


@dataclass(frozen=True, kw_only=True)
class Technique:
    """What the header of a slice says; ``""`` or None where it says nothing.

    Args:
        kernel: ConvolutionKernel, several values joined.
        mas: tube current times exposure time. Not Exposure: some makers write other things into it.
        kvp: tube voltage in kV.
        thickness_mm: SliceThickness.
    """

    kernel: str = ""
    mas: float | None = None
    kvp: float | None = None
    thickness_mm: float | None = None

    @property
    def _half_per_mm(self) -> float | None:
        for pattern, half_per_mm in _HALF_PER_MM:
            if pattern.search(self.kernel.upper()):
                return half_per_mm
        # Siemens numbers its kernels by sharpness: B20f is soft, B80f as sharp as can be.
        numbered = _SIEMENS.search(self.kernel)
        return (max(10, int(numbered[1])) + 8) / 100 if numbered else None

    def kernel_prior(self, nyquist_per_mm: float) -> Kernel:
        """A Hann window for the kernel's name; that of a standard body kernel where the name is not known.

        Args:
            nyquist_per_mm: of the pixels, which an unknown kernel is not taken to exceed.
        """
        if self._half_per_mm is None:
            return hann(min(2 * _UNKNOWN_HALF_PER_MM, nyquist_per_mm))
        return hann(2 * self._half_per_mm)

    def photons_prior(self, cell_mm: float) -> float | None:
        """Counts per ray and view in air, within a factor of :data:`PHOTON_TOLERANCE`; None without current or time.

        Args:
            cell_mm: width of the virtual detector's cells.
        """
        if not self.mas or not self.thickness_mm:
            return None
        voltage: float = ((self.kvp or 120.0) / 120.0) ** _KV_EXPONENT
        return _PHOTONS * self.mas * self.thickness_mm * cell_mm * voltage

    def plausible_frequencies_per_mm(self, nyquist_per_mm: float) -> tuple[float, float]:
        """Between which the mean frequency of the noise of such a kernel lies.

        Args:
            nyquist_per_mm: of the pixels; noise above is not there.
        """
        # Wide pixels hold low frequencies only.
        lowest, highest = min(_PLAUSIBLE_PER_MM[0], 0.25 * nyquist_per_mm), _PLAUSIBLE_PER_MM[1]
        if self._half_per_mm is None:
            return lowest, highest
        expected = self.kernel_prior(nyquist_per_mm).noise_frequency_per_mm(nyquist_per_mm)
        return max(lowest, expected / _TOLERANCE), min(highest, expected * _TOLERANCE)
