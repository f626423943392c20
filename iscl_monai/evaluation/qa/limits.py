"""What a denoiser is held against: numbers in a file that a physicist can edit, each with its kind and its reason."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from iscl_monai.durable import check_free, whole_file
from iscl_monai.errors import ConfigRefusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = Literal["physics", "standard", "published", "wish"]

FILE = "limits.toml"
LOWEST = "lowest_dose"
REASONS = "reasons"
ENTRY = ("limit", "kind", "reason")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Where a limit comes from.

    Args:
        kind: ``physics``: an image beyond it is wrong; ``standard``; ``published``: accepted in the literature;
            ``wish``: of this project, how good a denoiser should be.
        reason: in a sentence or two.

    Raises:
        ConfigRefusal: another kind.
    """

    kind: Kind
    reason: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or not isinstance(self.reason, str):
            raise ConfigRefusal(
                f"a limit of kind {self.kind!r}", allowed=", ".join(get_args(Kind)), cure="say where the limit is from"
            )


def shipped() -> str:
    """The text of the limits file that comes with the package."""
    return resources.files("iscl_monai.evaluation.qa").joinpath(FILE).read_text(encoding="utf-8")


@cache
def _shipped_reasons() -> Mapping[str, Reason]:
    """Kind and reason of each limit, as shipped."""
    entries = {name: entry for name, entry in tomllib.loads(shipped()).items() if name != LOWEST}
    return {name: Reason(kind=entry["kind"], reason=entry["reason"]) for name, entry in entries.items()}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Each number is explained, with its source, in ``limits.toml`` beside this module. None: not judged.

    Args:
        lowest_dose: share of the full dose below which nothing is judged.
        noise_reduction_percent_min: of the noise's standard deviation, below full dose, in water and in each tissue.
        noise_frequency_shift_percent_max: of the noise power spectrum's mean frequency, either way.
        noise_grain_shift_percent_max: of the fineness of the noise in a tissue, either way.
        own_noise_share_max: of the output's noise power, what is not the input's noise.
        strength_spread_max: of the share of noise that is left, between scans of one object.
        brightness_spread_hu_max: of the mean that is added, between scans of one object.
        f50_ratio_min: of the task transfer function, over that of the scan without noise.
        f50_ratio_max: the same, upwards, median of the contrasts.
        border_steepness_min: of borders in anatomy, over those of the scan without noise.
        border_steepness_max: the same, upwards.
        step_left_min: of a step from slice to slice.
        position_mm_max: by which rods and anatomy are moved.
        bias_soft_hu_max: of inserts within 200 HU of water.
        bias_other_hu_max: of the others.
        bias_anatomy_hu_max: of each tissue in anatomy.
        slope_error_max: of out against in, difference from 1.
        uniformity_hu_max: border against middle of the water disc.
        fixed_pattern_hu_max: what all outputs of water share, standard deviation.
        grey_steps_max: how much grey levels keep to steps.
        d_prime_ratio_min: of the channelised Hotelling observer, after over before.
        lesion_recovery_min: mean share of contrast that is left.
        lesion_recovery_max: the same, upwards.
        faint_recovery_min: mean share of contrast that is left of lesions of 10 HU.
        faint_recovery_max: the same, upwards.
        lesion_removed_share_max: of lesions that keep less than half of their contrast.
        calcification_recovery_min: mean share of contrast that is left of those that the scan shows.
        calcification_removed_share_max: of those that keep less than half of it.
        hallucinations_per_slice_max: that stay from scan to scan, beyond those of the input.
        invented_per_scan_max: in single outputs, beyond those of the input.
        full_dose_change_hu_max: mean absolute change of a full-dose scan.
        full_dose_psnr_db_min: of output against input at full dose.
        field_of_view_hu_max: in the middle, when the border is moved.
        repeat_hu_max: between two runs.
        reasons: kind and reason of each limit, by name.

    Raises:
        ConfigRefusal: a value that is no finite number of 0 or more, or a lowest dose above full dose.
    """

    lowest_dose: float | None = None
    noise_reduction_percent_min: float | None = None
    noise_frequency_shift_percent_max: float | None = None
    noise_grain_shift_percent_max: float | None = None
    own_noise_share_max: float | None = None
    strength_spread_max: float | None = None
    brightness_spread_hu_max: float | None = None
    f50_ratio_min: float | None = None
    f50_ratio_max: float | None = None
    border_steepness_min: float | None = None
    border_steepness_max: float | None = None
    step_left_min: float | None = None
    position_mm_max: float | None = None
    bias_soft_hu_max: float | None = None
    bias_other_hu_max: float | None = None
    bias_anatomy_hu_max: float | None = None
    slope_error_max: float | None = None
    uniformity_hu_max: float | None = None
    fixed_pattern_hu_max: float | None = None
    grey_steps_max: float | None = None
    d_prime_ratio_min: float | None = None
    lesion_recovery_min: float | None = None
    lesion_recovery_max: float | None = None
    faint_recovery_min: float | None = None
    faint_recovery_max: float | None = None
    lesion_removed_share_max: float | None = None
    calcification_recovery_min: float | None = None
    calcification_removed_share_max: float | None = None
    hallucinations_per_slice_max: float | None = None
    invented_per_scan_max: float | None = None
    full_dose_change_hu_max: float | None = None
    full_dose_psnr_db_min: float | None = None
    field_of_view_hu_max: float | None = None
    repeat_hu_max: float | None = None
    reasons: Mapping[str, Reason] = field(default_factory=_shipped_reasons, repr=False)

    def __post_init__(self) -> None:
        for name, value in self.numbers().items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (number and value >= 0):
                raise ConfigRefusal(
                    f"limit {name} = {value!r}",
                    allowed="a finite number of 0 or more",
                    cure="give a number, or take the line out to leave this unjudged",
                )
        if self.lowest_dose is not None and self.lowest_dose > 1:  # nothing would be judged, and so nothing fail
            raise ConfigRefusal(
                f"limit lowest_dose = {self.lowest_dose:g}",
                allowed="a share of the full dose, 0 to 1",
                cure="10 % is 0.1",
            )

    def numbers(self) -> dict[str, float | None]:
        """The limits by name, in their order."""
        return {name: getattr(self, name) for name in NAMES}

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


NAMES = tuple(one.name for one in fields(Limits) if one.name != REASONS)


def write_limits(file: Path) -> Path:
    """Write the proposals, reasons and all, for editing.

    Raises:
        OutputRefusal: if something is there already.
    """
    check_free(file)
    with whole_file(file) as opened:
        opened.write(shipped().encode())
    return file


def _parsed(text: str, name: str) -> Limits:
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigRefusal(
            f"{name}: {error}", allowed="lines such as f50_ratio_min = 0.9", cure="mend that line"
        ) from error
    for key in entries:
        _require_known(name, key, NAMES, "the names in the file that --write-limits writes")
    numbers = {key: _number(name, key, entry) for key, entry in entries.items()}
    reasons = {key: _reason(name, key, entry) for key, entry in entries.items() if isinstance(entry, dict)}
    limits = Limits(**numbers, reasons=dict(_shipped_reasons()) | reasons)
    if not set(entries) - {LOWEST}:  # nothing would be judged, and so nothing fail
        raise ConfigRefusal(
            f"{name}: no limit",
            allowed="one limit or more",
            cure="write all of them with `iscl-monai qa --write-limits FILE`, and take out what is not to be judged",
        )
    return limits


def _number(file: str, key: str, entry: Any) -> Any:
    """Of ``name = number``, or of a section with a line ``limit = number``."""
    if not isinstance(entry, dict):
        return entry
    for word in entry:
        _require_known(f"{file}: [{key}]", word, ENTRY, ", ".join(ENTRY))
    if "limit" not in entry:
        raise ConfigRefusal(f"{file}: [{key}] without limit", allowed="a line limit = NUMBER", cure="add one")
    return entry["limit"]


def _reason(file: str, key: str, entry: Mapping[str, Any]) -> Reason:
    usual = _shipped_reasons()[key]
    try:
        return Reason(kind=entry.get("kind", usual.kind), reason=entry.get("reason", usual.reason))
    except ConfigRefusal as error:
        raise ConfigRefusal(f"{file}: [{key}]: {error.came}", allowed=error.allowed, cure=error.cure) from error


def _require_known(place: str, word: str, known: tuple[str, ...], allowed: str) -> None:
    if word in known:
        return
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    raise ConfigRefusal(
        f"{place}: {word} is not known",
        allowed=allowed,
        cure=f"did you mean {near[0]}?" if near else "take the line out",
    )
