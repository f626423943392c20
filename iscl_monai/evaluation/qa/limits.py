"""What a denoiser is held against: numbers in a file that a physicist can edit."""

from __future__ import annotations

import difflib
import math
import sys
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from iscl_monai.durable import check_free, whole_file
from iscl_monai.errors import ConfigRefusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "limits.toml"
LOWEST = "lowest_dose"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Each number is explained, with its source, in ``limits.toml`` beside this module. None: not judged.

    Args:
        lowest_dose: share of the full dose below which nothing is judged.
        noise_reduction_percent_min: of the noise's standard deviation, below full dose.
        noise_frequency_shift_percent_max: of the noise power spectrum's mean frequency, either way.
        f50_ratio_min: of the task transfer function, over that of the scan without noise.
        f50_ratio_max: the same, upwards, median of the contrasts.
        position_mm_max: by which rods and anatomy are moved.
        bias_soft_hu_max: of inserts within 200 HU of water.
        bias_other_hu_max: of the others.
        bias_anatomy_hu_max: of lung and of soft tissue in anatomy.
        slope_error_max: of out against in, difference from 1.
        uniformity_hu_max: border against middle of the water disc.
        d_prime_ratio_min: of the channelised Hotelling observer, after over before.
        lesion_recovery_min: mean share of contrast that is left.
        lesion_recovery_max: the same, upwards.
        lesion_removed_share_max: of lesions that keep less than half of their contrast.
        hallucinations_per_slice_max: beyond those of the input.
        full_dose_change_hu_max: mean absolute change of a full-dose scan.
        full_dose_psnr_db_min: of output against input at full dose.
        field_of_view_hu_max: in the middle, when the border is moved.
        repeat_hu_max: between two runs.

    Raises:
        ConfigRefusal: a value that is no finite number of 0 or more, or a lowest dose above full dose.
    """

    lowest_dose: float | None = None
    noise_reduction_percent_min: float | None = None
    noise_frequency_shift_percent_max: float | None = None
    f50_ratio_min: float | None = None
    f50_ratio_max: float | None = None
    position_mm_max: float | None = None
    bias_soft_hu_max: float | None = None
    bias_other_hu_max: float | None = None
    bias_anatomy_hu_max: float | None = None
    slope_error_max: float | None = None
    uniformity_hu_max: float | None = None
    d_prime_ratio_min: float | None = None
    lesion_recovery_min: float | None = None
    lesion_recovery_max: float | None = None
    lesion_removed_share_max: float | None = None
    hallucinations_per_slice_max: float | None = None
    full_dose_change_hu_max: float | None = None
    full_dose_psnr_db_min: float | None = None
    field_of_view_hu_max: float | None = None
    repeat_hu_max: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (number and value >= 0):
                raise ConfigRefusal(
                    f"limit {field.name} = {value!r}",
                    allowed="a finite number of 0 or more",
                    cure="give a number, or take the line out to leave this unjudged",
                )
        if self.lowest_dose is not None and self.lowest_dose > 1:  # nothing would be judged, and so nothing fail
            raise ConfigRefusal(
                f"limit lowest_dose = {self.lowest_dose:g}",
                allowed="a share of the full dose, 0 to 1",
                cure="10 % is 0.1",
            )

    @classmethod
    def proposed(cls) -> Limits:
        """The proposals shipped with this package."""
        return _parsed(shipped(), FILE)

    @classmethod
    def read(cls, file: Path) -> Limits:
        """Those of an edited file.

        Raises:
            ConfigRefusal: a file that cannot be read, is no TOML, holds what makes no sense, or no limit.
        """
        try:
            text = file.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigRefusal(
                f"{file}: {error}", allowed="a limits file", cure="write one with `iscl-monai qa --write-limits FILE`"
            ) from error
        return _parsed(text, str(file))


def shipped() -> str:
    """The text of the limits file that comes with the package."""
    return resources.files("iscl_monai.evaluation.qa").joinpath(FILE).read_text(encoding="utf-8")


def write_limits(file: Path) -> Path:
    """Write the proposals, comments and all, for editing.

    Raises:
        OutputRefusal: if something is there already.
    """
    check_free(file)
    with whole_file(file) as opened:
        opened.write(shipped().encode())
    return file


def _parsed(text: str, name: str) -> Limits:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigRefusal(
            f"{name}: {error}", allowed="lines such as f50_ratio_min = 0.9", cure="mend that line"
        ) from error
    known = [field.name for field in fields(Limits)]
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            raise ConfigRefusal(
                f"{name}: {key} is not known",
                allowed="the names in the file that --write-limits writes",
                cure=f"did you mean {near[0]}?" if near else "take the line out",
            )
    limits = Limits(**found)
    if not set(found) - {LOWEST}:  # nothing would be judged, and so nothing fail
        raise ConfigRefusal(
            f"{name}: no limit",
            allowed="one limit or more",
            cure="write all of them with `iscl-monai qa --write-limits FILE`, and take out what is not to be judged",
        )
    return limits
