"""Which series are denoised, how, and where the result goes: the words of a rule, and whether it fits."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RULE_TAGS = (  # what a rule may test; no name, birth date or number of a patient is among them
    "Modality",
    "SOPClassUID",
    "ImageType",
    "SeriesDescription",
    "StudyDescription",
    "AccessionNumber",
    "PatientAge",  # in years
    "ProtocolName",
    "BodyPartExamined",
    "ConvolutionKernel",
    "SliceThickness",
    "KVP",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "InstitutionName",
    "sender",
    "reconstruction",  # iterative or learned, by its name; measured when the series is complete, as
    "noise",  # in the quietest soft tissue, HU
)
MEASURED_TAGS = ("reconstruction", "noise")
HIDDEN_TAGS = ("AccessionNumber",)  # whose value no page shows: it leads to a patient
PRIORITIES = {"urgent": 0, "normal": 1, "later": 2}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Strict(BaseModel):
    """Settings that take no other names, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(Strict):
    """Which series are denoised, how, and where the result goes; the first rule that fits decides.

    Args:
        name: what pages call it.
        when: what each of these tags must be, all of them: ``"CT"`` (one of its values is that text, ignoring case),
            ``"~REGEX"`` (found anywhere in its values, joined by backslashes), ``"!TEXT"`` or ``"!~REGEX"`` (not
            that), ``"<=3"``, ``"<3"``, ``">=3"``, ``">3"`` (a number), or a list of these, of which one is enough.
        process: false: series of this rule are left alone, on purpose.
        strength: share of the change that is applied.
        priority: ``urgent``, ``normal`` or ``later``.
        quiet_s: a series is complete after so many seconds without a new object.
        send_to: names of peers.
        hold_unlike: what is unlike the training of the weights is denoised and kept, and sent only after an admin has
            released it.
        shadow: the rule decides nothing: what it fits is also denoised by it, last of all, to be compared on the pages;
            it may send to nobody, or to a test AE.
    """

    name: Name
    when: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    process: bool = True
    strength: float = Field(default=1.0, ge=0, le=1)
    priority: Literal["urgent", "normal", "later"] = "normal"
    quiet_s: Seconds = 30
    send_to: tuple[Name, ...] = ()
    hold_unlike: bool = False
    shadow: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        for tag, tests in self.when.items():
            if tag not in RULE_TAGS:
                near = difflib.get_close_matches(tag, RULE_TAGS, 1)
                raise ValueError(f"{tag} is no tag of a rule" + (f", did you mean {near[0]}" if near else ""))
            for test in (tests,) if isinstance(tests, str) else tests:
                _check_test(test)
        if self.shadow and not self.process:
            raise ValueError("a shadow rule with process = false would do nothing")
        if self.process and not self.send_to and not self.shadow:
            raise ValueError("send_to is empty: its results would go nowhere (process = false leaves series alone)")
        return self


def _check_test(test: str) -> None:
    text = test.removeprefix("!")
    if text.startswith("~"):
        try:
            re.compile(text[1:])
        except re.error as error:
            raise ValueError(f"{text[1:]!r} is no regular expression ({error})") from error
    elif text.startswith(("<", ">")):
        try:
            float(text.lstrip("<>="))
        except ValueError:
            raise ValueError(f"{text!r} compares with no number") from None


def matching_rule(rules: Sequence[Rule], tags: Mapping[str, Any]) -> Rule | None:
    """The first rule whose conditions all hold; shadow rules decide nothing."""
    return next((rule for rule in rules if not rule.shadow and fits(rule, tags)), None)


def shadow_rules(rules: Sequence[Rule], tags: Mapping[str, Any]) -> list[Rule]:
    """Shadow rules whose conditions all hold."""
    return [rule for rule in rules if rule.shadow and fits(rule, tags)]


def measured_tags_are_tested(rules: Sequence[Rule]) -> bool:
    """Whether any rule looks at what has to be measured."""
    return any(tag in rule.when for rule in rules for tag in MEASURED_TAGS)


def fits(rule: Rule, tags: Mapping[str, Any]) -> bool:
    """Whether all conditions of a rule hold for the tags of a series."""
    return all(
        any(_holds(test, str(tags.get(tag, ""))) for test in ((tests,) if isinstance(tests, str) else tests))
        for tag, tests in rule.when.items()
    )


def _holds(test: str, value: str) -> bool:
    if test.startswith("!"):
        return not _holds(test[1:], value)
    if test.startswith("~"):
        return re.search(test[1:], value) is not None
    if test.startswith(("<", ">")):
        return _compares(test, value)
    return test.casefold() in [part.strip().casefold() for part in value.split("\\")]


def _compares(test: str, value: str) -> bool:
    limit = float(test.lstrip("<>="))
    try:
        number = float(value.split("\\")[0])
    except ValueError:
        return False  # absent: no number is below or above
    if test.startswith("<"):
        return number < limit or ("=" in test[:2] and number == limit)
    return number > limit or ("=" in test[:2] and number == limit)
