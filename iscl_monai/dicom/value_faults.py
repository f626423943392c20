"""What voxel values hold that Hounsfield units cannot, and which mistake of whoever wrote them explains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from iscl_monai.dicom.value_statistics import ValueStatistics

AIR_HU = (-1060.0, -940.0)
"""Where block means of air lie; real scans have their median at -1024 (clipped) to -950."""
TISSUE_HU = (-200.0, 200.0)
"""Fat, water, muscle, blood with some contrast, most plastics; 52 to 98 % of what is above -200 HU in real scans."""
DENSE_HU = 400.0
"""Bone; at most 7 % of the blocks of real scans."""
LUNG_HU = (-900.0, -600.0)
WIDE_MM = 200.0
"""A field of this side shows what surrounds a body, or a lung; spine, ear and heart are reconstructed smaller."""

GIVE_HU = "give the original Hounsfield units, before any windowing, scaling or conversion"


@dataclass(frozen=True)
class Fault:
    """What was found that cannot be in Hounsfield units, and what to do about it."""

    finding: str
    cure: str = GIVE_HU


def find_fault(values: ValueStatistics) -> Fault | None:
    """The first of :data:`RULES` that is broken; None when all are kept."""
    return next((fault for fault in (rule(values) for rule in RULES) if fault is not None), None)


def is_wide(values: ValueStatistics) -> bool:
    """Whether the field is known to be so wide that air should be seen in it."""
    return values.field_mm is not None and values.field_mm >= WIDE_MM


def shows_air_and_tissue(values: ValueStatistics, *, least_tissue: float = 0.03) -> bool:
    """Air where air must be, most of what is denser within 200 HU of water, and air no noisier than tissue."""
    air, tissue = values.share(*AIR_HU), values.share(*TISSUE_HU)
    if air < 0.01 or tissue < least_tissue or tissue < 0.5 * values.share(TISSUE_HU[0], np.inf):
        return False
    # Lung and the insides of inverted bodies are rougher than what surrounds them.
    if values.noise_hu(*AIR_HU) > 1.2 * values.noise_hu(*TISSUE_HU) + 1:
        return False
    return TISSUE_HU[0] <= most_frequent_hu(values, above_hu=LUNG_HU[1]) <= TISSUE_HU[1]


def spreads_as_no_tissue(values: ValueStatistics) -> bool:
    """Whether soft tissue is spread over more HU than it is in CT, as in MR that was scaled to look like HU.

    Measured: 0.05 to 0.52 in 102 of 105 real CT series (a phantom 1.7, two single slices 0.66 and 0.85), 0.69 to 2.2
    in MR and electron microscopy scaled so that air and tissue lie right. Noise widens it.
    """
    tissue = values.share(*TISSUE_HU)
    if tissue == 0:
        return True
    beside = (values.share(-500, TISSUE_HU[0]) + values.share(TISSUE_HU[1], np.inf)) / tissue
    wings = (values.share(TISSUE_HU[0], -140) + values.share(120, TISSUE_HU[1])) / tissue
    return beside + wings > 0.68 + 0.0017 * max(0.0, values.noise_hu(*TISSUE_HU) - 60)


def most_frequent_hu(values: ValueStatistics, *, above_hu: float) -> float:
    """Middle of the 100 HU in which most blocks above a value lie; NaN when there is none."""
    means = values.mean_hu[values.mean_hu > above_hu]
    if means.size == 0:
        return float("nan")
    counts, edges = np.histogram(means.clip(max=5000), np.arange(above_hu, 5100, 20))
    return float(edges[np.convolve(counts, np.ones(5), "same").argmax()] + 10)


# --- the mistake ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A way to get Hounsfield units wrong: ``value = slope * HU + offset``."""

    slope: float
    offset_hu: float
    cure: str


INVERTED = "the values seem to be inverted: give the original CT images"
MISTAKES = (
    Mistake(1, 1024, "write RescaleIntercept -1024, or subtract 1024 from all values"),
    Mistake(1, 1000, "write RescaleIntercept -1000, or subtract 1000 from all values"),
    Mistake(1, -1024, "the intercept (-1024) seems to be applied twice: write RescaleIntercept 0, or add 1024"),
    Mistake(1, -1000, "the intercept (-1000) seems to be applied twice: write RescaleIntercept 0, or add 1000"),
    Mistake(-1, 0, INVERTED),
    Mistake(-1, -1000, INVERTED),
    Mistake(0.5, 0, "the values seem to be half of HU: mend the slope"),
    Mistake(2, 0, "the values seem to be twice HU: mend the slope"),
    Mistake(10, 0, "the values seem to be ten times HU: mend the slope"),
    Mistake(0.1, 0, "the values seem to be a tenth of HU: mend the slope"),
    Mistake(0.5, -512, "the slope seems to be half of what it should be, with an intercept of -1024: mend it"),
    Mistake(2, 1024, "the slope seems to be twice what it should be, with an intercept of -1024: mend it"),
)


def explaining_mistake(values: ValueStatistics) -> Mistake | None:
    """The mistake that would explain the values: undone, they show air and tissue; the best centred air wins."""
    explained = []
    for mistake in MISTAKES:
        undone = values.rescaled(mistake.slope, mistake.offset_hu)
        if shows_air_and_tissue(undone, least_tissue=0.04):
            explained.append((abs(undone.median_hu(*AIR_HU) + 1000), mistake))
    return min(explained, key=lambda pair: pair[0])[1] if explained else None


def _cure(values: ValueStatistics) -> str:
    mistake = explaining_mistake(values)
    return GIVE_HU if mistake is None else mistake.cure


# --- the rules --------------------------------------------------------------------------------------------


def normalised(values: ValueStatistics) -> Fault | None:
    """Nothing but small fractions: [0, 1], [-1, 1], z-scores, logarithms, HU over 1000."""
    lowest, highest = values.range_hu()
    if not np.any(values.pixels != np.rint(values.pixels)) or lowest < -20 or highest > 20 or highest - lowest >= 20:
        return None
    if lowest >= -0.01 and highest <= 1.01:
        kind = "normalised to [0, 1]"
    elif lowest >= -1.3 and highest <= 1.3:
        kind = "normalised to [-1, 1], or HU divided by 1000"
    else:
        kind = "z-scores, logarithms or HU divided by a constant"
    return Fault(f"all values within {values.pixels[0]:.3g} to {values.pixels[-1]:.3g}, {kind}")


def eight_bits(values: ValueStatistics) -> Fault | None:
    """A picture of 256 grey levels, as it is or stretched to other values."""
    lowest, highest = values.range_hu()
    if values.pixels[0] >= 0 and values.pixels[-1] <= 255 and highest - lowest > (60 if is_wide(values) else 100):
        return Fault(f"all values within {values.pixels[0]:g} to {values.pixels[-1]:g}, an 8-bit picture")
    levels = np.unique(values.pixels)
    steps = np.diff(levels)
    if not 30 <= levels.size <= 260 or steps.min() < 3.5:
        return None
    whole = steps / steps.min()
    if np.mean(np.abs(whole - np.rint(whole)) < 0.01) < 0.9:
        return None
    return Fault(f"{levels.size} levels in steps of {steps.min():.3g} HU, an 8-bit picture")


def wrapped(values: ValueStatistics) -> Fault | None:
    """Integers that were read with another sign, width or byte order than they were written with."""
    negative = float(np.mean((values.pixels > 60000) & (values.pixels < 65536)))
    if negative > 0.01:
        return Fault(
            f"{negative:.0%} of the pixels above 60,000, as negative numbers are that were read as unsigned",
            "export it again as signed integers (PixelRepresentation 1, int16)",
        )
    noise_hu = float(np.median(values.sd_hu))
    if noise_hu > 400:
        return Fault(
            f"neighbouring pixels differ by {noise_hu:.0f} HU (median), as where integers wrapped or bytes are swapped",
            "export it again, with the sign, width and byte order that were written",
        )
    speckled = float(values.speckled.mean())
    if speckled > 0.02:
        return Fault(
            f"pixels above 2000 HU scattered over {speckled:.0%} of the image amid air, as where values below the "
            "lowest one wrapped around",
            "export it again as signed integers, or with a lower intercept",
        )
    return None


def below_air(values: ValueStatistics) -> Fault | None:
    """Less dense than nothing."""
    surely_below = values.mean_hu + values.sd_hu / 2 < -1080  # noise alone takes many blocks of air below -1080
    just = float(np.mean(surely_below & (values.mean_hu > -1450)))
    deep = float(np.mean((values.mean_hu < -1450) & values.inner))  # padding that is not all one value lies outside
    if just < 0.03 and deep < 0.03:
        return None
    return Fault(f"{values.share(-np.inf, -1080):.0%} of the field below -1080 HU, where nothing can be", _cure(values))


def dense(values: ValueStatistics) -> Fault | None:
    """More as dense as bone than a body or a phantom has: an offset, an inverted or another scale."""
    bone, metal, tissue = values.share(DENSE_HU, np.inf), values.share(2000, np.inf), values.share(*TISSUE_HU)
    wide = is_wide(values)
    thin = wide and bone > 0.12 and tissue < bone / 3
    if bone < (0.2 if wide else 0.6) and metal < (0.04 if wide else 0.15) and not thin:
        return None
    finding = f"{bone:.0%} of the field above {DENSE_HU:.0f} HU, as dense as bone"
    if values.share(-np.inf, TISSUE_HU[0]) < 0.005:
        finding += f", and no value below {TISSUE_HU[0]:.0f} HU"
    if metal > 0.04 and values.share(*AIR_HU) < 0.01 and 2950 < values.median_hu(2000, 5000) < 3200:
        return Fault(
            f"{finding}, with a region where air would be if it wrapped around at 12 bits",
            "export it again as signed integers (PixelRepresentation 1)",
        )
    return Fault(finding, _cure(values))


def another_scale(values: ValueStatistics) -> Fault | None:
    """No air in a wide field, but air and tissue are there if one of the known mistakes is undone."""
    if not is_wide(values) or values.share(*AIR_HU) >= 0.01:
        return None
    mistake = explaining_mistake(values)
    if mistake is None or mistake.slope < 0:  # a lung in a chest that fills the field would be "inverted" tissue
        return None
    undone = values.rescaled(mistake.slope, mistake.offset_hu)
    air = mistake.slope * undone.median_hu(*AIR_HU) + mistake.offset_hu
    return Fault(
        f"no air near -1000 HU in a field of {values.field_mm:.0f} mm, but a large smooth region at {air:.0f} HU",
        mistake.cure,
    )


def surrounded_by_no_air(values: ValueStatistics) -> Fault | None:
    """What lies along the edges of a wide image is one material, neither air nor tissue."""
    edge = values.mean_hu[values.border]
    if not is_wide(values) or edge.size == 0 or values.share(LUNG_HU[1], np.inf) < 0.02:  # else air or a lung alone
        return None
    median = float(np.median(edge))
    alike = np.mean(np.abs(edge - median) < 40)
    if alike < 0.6 or -1080 <= median <= -925 or TISSUE_HU[0] <= median <= TISSUE_HU[1] or median < -1080:
        return None
    return Fault(
        f"{alike:.0%} of what surrounds the body lies at {median:.0f} HU, where air should at -1000", _cure(values)
    )


def empty_field(values: ValueStatistics) -> Fault | None:
    """A wide field without air, lung, or at least mostly fat and soft tissue."""
    if not is_wide(values) or values.share(-1080, LUNG_HU[1]) >= 0.01 or values.share(*TISSUE_HU) > 0.6:
        return None
    return Fault(f"neither air nor lung in a field of {values.field_mm:.0f} mm, and little tissue", _cure(values))


def no_tissue(values: ValueStatistics) -> Fault | None:
    """Air is where it should be, but what it surrounds is neither tissue nor lung."""
    body = 1 - values.share(-np.inf, -900)
    if values.share(-1080, -900) < 0.05 or body < 0.1 or values.share(*TISSUE_HU) > 0.12 * body:
        return None
    main = most_frequent_hu(values, above_hu=-900)
    if values.share(main - 50, main + 50) < 0.2 * body or TISSUE_HU[0] <= main <= TISSUE_HU[1] or main < LUNG_HU[1]:
        return None
    return Fault(f"most of what is not air lies at {main:.0f} HU, where neither tissue nor lung does", _cure(values))


def clipped(values: ValueStatistics) -> Fault | None:
    """Many pixels at exactly one end: MR with its background cut off, CT after windowing."""
    lowest, highest = float(values.pixels[0]), float(values.pixels[-1])
    if highest - lowest < 20 or np.unique(values.pixels).size <= 30:  # a drawing without noise may be right
        return None
    if lowest > -900 and values.at_lowest > 0.05:
        return Fault(f"{values.at_lowest:.0%} of the pixels at exactly {lowest:g} HU, the lowest value of all")
    if highest < 1000 and values.at_highest > 0.01:
        return Fault(f"{values.at_highest:.0%} of the pixels at exactly {highest:g} HU, the highest value of all")
    return None


def inside_out(values: ValueStatistics) -> Fault | None:
    """What lies at the edge of the image is like water and smooth, what is within it like air and noisy."""
    edge = values.mean_hu[values.border]
    if edge.size == 0 or values.share(*AIR_HU) < 0.1:
        return None
    smooth = values.noise_hu(*TISSUE_HU) < 0.5 * values.noise_hu(*AIR_HU)
    if np.mean((edge > TISSUE_HU[0]) & (edge < TISSUE_HU[1])) < 0.8 or not smooth:
        return None
    return Fault("smooth water around noisy air", INVERTED)


RULES: tuple[Callable[[ValueStatistics], Fault | None], ...] = (
    normalised,
    eight_bits,
    wrapped,
    below_air,
    dense,
    another_scale,
    surrounded_by_no_air,
    empty_field,
    no_tissue,
    clipped,
    inside_out,
)
"""Asked in this order; the first that finds something is told."""
