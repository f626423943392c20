"""Curves of noise: how strong, of which texture, and at which frequencies."""

from __future__ import annotations

from collections.abc import Iterator

from iscl_monai.evaluation.qa.by_dose import by_dose, dose_axis, limit_levels, module_name, percent, some_doses
from iscl_monai.evaluation.qa.phantom import ANATOMY, FULL_DOSE, WATER
from iscl_monai.evaluation.qa.result import DoseResult, QaResult
from iscl_monai.report.curves import Axis, Curve
from iscl_monai.report.plot import Plot, plot

FREQUENCY = Axis(label="spatial frequency, 1/mm", low=0)
FAINTEST_PART = 1e-5
"""Of the strongest power: below, logarithms show rounding."""


def noise_plots(result: QaResult) -> Iterator[Plot]:
    """Standard deviation, spectra, texture, mean frequency."""
    yield _strength(result)
    yield _spectra(result)
    yield _texture(result.doses[-1])
    yield _frequency(result)


def _strength(result: QaResult) -> Plot:
    curves = []
    for colour, name in enumerate((WATER, *ANATOMY)):
        found = [next(noise for noise in one.noise if noise.module == name) for one in result.doses]
        before, after = [one.before_hu for one in found], [one.after_hu for one in found]
        curves.append(by_dose(result, f"{module_name(name)}, input", before, colour=colour, dashed=True))
        curves.append(by_dose(result, f"{module_name(name)}, output", after, colour=colour))
    return plot(curves, x=dose_axis(result), y=Axis(label="standard deviation, HU", log=True), title="Noise")


def _spectra(result: QaResult) -> Plot:
    curves = []
    for colour, one in enumerate(some_doses(result)):
        for name, texture in (("input", one.texture_before), ("output", one.texture_after)):
            power = texture.power_hu2_mm2
            curves.append(
                Curve(
                    name=f"{percent(one.dose)} {name}",
                    x=texture.frequency_per_mm,
                    y=power.clip(FAINTEST_PART * one.texture_before.power_hu2_mm2.max()),
                    colour=colour,
                    dashed=name == "input",
                )
            )
    axis = Axis(label="noise power, HU² mm²", log=True)
    return plot(curves, x=FREQUENCY, y=axis, title="Noise power spectra in water")


def _texture(one: DoseResult) -> Plot:
    textures = {
        "input": one.texture_before,
        "output": one.texture_after,
        "removed (input minus output)": one.texture_removed,
    }
    curves = [
        Curve(name=name, x=texture.frequency_per_mm, y=texture.power_hu2_mm2 / max(texture.power_hu2_mm2.max(), 1e-9))
        for name, texture in textures.items()
    ]
    axis = Axis(label="noise power over its peak", low=0)
    return plot(curves, x=FREQUENCY, y=axis, title=f"Texture at {percent(one.dose)} of the dose")


def _frequency(result: QaResult) -> Plot:
    limit = result.limits["noise_frequency_shift_percent_max"]
    full_per_mm = result.at(FULL_DOSE).texture_before.mean_per_mm
    limits_per_mm = [] if limit is None else [full_per_mm * (1 + sign * limit / 100) for sign in (-1, 1)]
    before, after = (
        [texture.mean_per_mm for texture in textures]
        for textures in ([one.texture_before for one in result.doses], [one.texture_after for one in result.doses])
    )
    peaks = [one.texture_after.peak_per_mm for one in result.doses]
    return plot(
        [
            by_dose(result, "mean, input", before, colour=0, dashed=True),
            by_dose(result, "mean, output", after, colour=0),
            by_dose(result, "peak, output", peaks, colour=1),
        ],
        x=dose_axis(result),
        y=Axis(label="frequency, 1/mm", low=0),
        title="Frequency of the noise",
        levels=limit_levels(*limits_per_mm, name="limit of the mean"),
    )
