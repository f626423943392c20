"""What is measured of one thing each: noise, texture, rods, signals, lesions, blobs; numbers in frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from iscl_monai.quality.detectability import Detectability


@dataclass(frozen=True, kw_only=True)
class NoiseFigures:
    """Noise of one module, before and after: standard deviation over realisations, over a region.

    Args:
        module: where.
        before_hu: of the input.
        after_hu: of the output.
    """

    module: str
    before_hu: float
    after_hu: float

    @property
    def reduction_percent(self) -> float:
        """0 nothing, 100 everything."""
        return 100 * (1 - self.after_hu / self.before_hu) if self.before_hu > 0 else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """A radial noise power spectrum in water.

    Args:
        frequency_per_mm: shape (frequency,).
        power_hu2_mm2: HU^2 mm^2, shape (frequency,).
        plane_hu2_mm2: by direction, frequency 0 in the middle, shape (64, 64); not in the JSON.
        peak_per_mm: where it is highest.
        mean_per_mm: mean frequency, weighted with the power.
        check: root of the sum of the two-dimensional spectrum times du dv, over the patches' standard deviation: 1.
    """

    frequency_per_mm: npt.NDArray[np.float64]
    power_hu2_mm2: npt.NDArray[np.float64]
    plane_hu2_mm2: npt.NDArray[np.float64] = field(repr=False, metadata={"json": False})
    peak_per_mm: float
    mean_per_mm: float
    check: float


@dataclass(frozen=True, kw_only=True, eq=False)
class InsertFigures:
    """One rod: is its value right, and its edge sharp. What could not be measured is NaN.

    Args:
        name: of it.
        true_hu: as drawn.
        shown_hu: as the scanner shows it without noise.
        before_hu: mean of the input.
        after_hu: mean of the output.
        f50_per_mm: of the scan without noise.
        f50_before_per_mm: of the input, where its edge stands out.
        f50_after_per_mm: of the output.
        f10_per_mm: as ``f50_per_mm``.
        f10_after_per_mm: as ``f50_after_per_mm``.
        frequency_per_mm: of the task transfer functions, ascending from 0, shape (frequency,).
        transfer: task transfer function of the scan without noise, same shape.
        transfer_after: of the output; NaN where its edge does not stand out.
    """

    name: str
    true_hu: float
    shown_hu: float
    before_hu: float
    after_hu: float
    f50_per_mm: float
    f50_before_per_mm: float
    f50_after_per_mm: float
    f10_per_mm: float
    f10_after_per_mm: float
    frequency_per_mm: npt.NDArray[np.float64]
    transfer: npt.NDArray[np.float64]
    transfer_after: npt.NDArray[np.float64]

    @property
    def shift_hu(self) -> float:
        """What the denoiser did to the mean: noise is the same in both, so few pixels tell it exactly."""
        return self.after_hu - self.before_hu

    @property
    def f50_ratio(self) -> float:
        """After, over the scan without noise."""
        return self.f50_after_per_mm / self.f50_per_mm


@dataclass(frozen=True, kw_only=True)
class AccuracyFigures:
    """Hounsfield units and sharpness.

    Args:
        inserts: one by one.
        slope: of out against in over the inserts.
        offset_hu: of that line at 0 HU.
        uniformity_before_hu: largest difference of the border from the middle of water.
        uniformity_after_hu: of the output.
    """

    inserts: tuple[InsertFigures, ...]
    slope: float
    offset_hu: float
    uniformity_before_hu: float
    uniformity_after_hu: float


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """Can an observer tell a signal from its absence.

    Args:
        module: where.
        name: of the signal.
        diameter_mm: of it.
        contrast_hu: of it, signed.
        before: on the input.
        after: on the output.
    """

    module: str
    name: str
    diameter_mm: float
    contrast_hu: float
    before: Detectability
    after: Detectability


@dataclass(frozen=True, kw_only=True)
class LesionFigures:
    """One lesion in anatomy.

    Args:
        module: where.
        organ: it lies in.
        diameter_mm: of it.
        contrast_hu: of it, signed.
        shape: disc or gaussian.
        recovered: share of its contrast in the output, mean over realisations.
    """

    module: str
    organ: str
    diameter_mm: float
    contrast_hu: float
    shape: str
    recovered: float


@dataclass(frozen=True, kw_only=True)
class InventionFigures:
    """Blobs that are not in the truth: those that stay from realisation to realisation, and those of single scans.

    Args:
        module: where.
        before: in the mean of the inputs: what the scan itself does at few photons.
        after: in the mean of the outputs.
        low: lower end of the 95 % interval of ``after``.
        high: upper end of it.
        single_before: blobs in a single input that its noise would hardly ever show, mean over scans.
        single_after: in a single output, by the noise of the input.
    """

    module: str
    before: int
    after: int
    low: float
    high: float
    single_before: float
    single_after: float


@dataclass(frozen=True, kw_only=True)
class TissueFigures:
    """One tissue in anatomy.

    Args:
        module: where.
        tissue: lung, fat, muscle, organs, contrast medium or bone.
        pixels: that were looked at.
        shift_hu: what the denoiser did to the mean, less what chance does; NaN: too few pixels to tell.
        noise: standard deviation over realisations, before and after; None: too few pixels.
        grain_before: root mean square difference of neighbouring pixels' noise over its standard deviation: the
            finer, the larger.
        grain_after: of the output; NaN where no noise is left.
    """

    module: str
    tissue: str
    pixels: int
    shift_hu: float
    noise: NoiseFigures | None
    grain_before: float
    grain_after: float


@dataclass(frozen=True, kw_only=True)
class BorderFigures:
    """One kind of border in anatomy.

    Args:
        module: where.
        border: what meets there.
        pixels: that were looked at.
        steepness: 1: as the scanner shows it without noise; NaN: too few pixels, or too much noise, to tell.
    """

    module: str
    border: str
    pixels: int
    steepness: float


@dataclass(frozen=True, kw_only=True)
class CalcificationFigures:
    """One calcification in anatomy.

    Args:
        module: where.
        diameter_mm: of it.
        signal_to_noise: root of the sum over pixels of (what it adds / noise of the input)^2; 5 and more is seen.
        recovered: share of its contrast in the output, mean over realisations.
    """

    module: str
    diameter_mm: float
    signal_to_noise: float
    recovered: float


@dataclass(frozen=True, kw_only=True)
class SteadinessFigures:
    """How much denoising differs between scans of one object that differ in their noise alone.

    Args:
        module: where.
        strength_spread: of the share of noise that is left, largest less smallest.
        brightness_spread_hu: of the mean that is added, largest less smallest.
    """

    module: str
    strength_spread: float
    brightness_spread_hu: float


@dataclass(frozen=True, kw_only=True)
class RobustnessFigures:
    """What has nothing to do with dose.

    Args:
        full_dose_change_hu: mean absolute change over the body at full dose.
        full_dose_psnr_db: of output against input there, range 2000 HU; inf where nothing changed.
        padded_hu: largest change in the middle when air is put around the slice.
        cropped_hu: the same when the border is cut off.
        repeat_hu: largest difference between two runs.
    """

    full_dose_change_hu: float
    full_dose_psnr_db: float
    padded_hu: float
    cropped_hu: float
    repeat_hu: float
