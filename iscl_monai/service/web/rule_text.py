"""Rules in plain words, and which of them fits a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iscl_monai.service.rules import HIDDEN_TAGS, Rule, fits, matching_rule
from iscl_monai.service.settings import Settings

COMPARISONS = {"<=": "is at most", "<": "is below", ">=": "is at least", ">": "is above"}


def describe_test(test: str) -> str:
    """One test of a rule, e.g. ``is at most 3``."""
    if test.startswith("!"):
        inner = describe_test(test[1:])
        for word in ("is ", "matches "):
            if inner.startswith(word):
                return f"{'is not' if word == 'is ' else 'does not match'} {inner.removeprefix(word)}"
    if test.startswith("~"):
        return f"matches /{test[1:]}/"
    for sign, words in COMPARISONS.items():
        if test.startswith(sign):
            return f"{words} {test.removeprefix(sign).strip()}"
    return f"is “{test}”"


@dataclass(frozen=True)
class Condition:
    """One line of a rule.

    Args:
        tag: it looks at.
        words: what the tag must be.
        value: what it is in the series that is tested; ``""`` when none is, or it is empty.
        holds: whether it holds there; None when no series is tested.
    """

    tag: str
    words: str
    value: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class ExplainedRule:
    """A rule in words.

    Args:
        rule: the rule.
        conditions: all of them must hold.
        fits: whether they do; None when no series is tested.
        decides: whether it is the first that fits.
    """

    rule: Rule
    conditions: tuple[Condition, ...]
    fits: bool | None = None
    decides: bool = False


def explain_rules(settings: Settings, tags: Mapping[str, Any] | None = None) -> list[ExplainedRule]:
    """All rules in their order.

    Args:
        settings: of the node.
        tags: of a series to test them on.
    """
    first = matching_rule(settings.rules, tags) if tags is not None else None
    return [
        ExplainedRule(
            rule,
            tuple(_condition(rule, tag, tags) for tag in rule.when),
            None if tags is None else fits(rule, tags),
            rule is first,
        )
        for rule in settings.rules
    ]


def _condition(rule: Rule, tag: str, tags: Mapping[str, Any] | None) -> Condition:
    tests = rule.when[tag]
    words = " or ".join(describe_test(test) for test in ((tests,) if isinstance(tests, str) else tests))
    if tags is None:
        return Condition(tag, words)
    alone = rule.model_copy(update={"when": {tag: tests}})
    value = str(tags.get(tag, ""))
    return Condition(tag, words, "(hidden)" if value and tag in HIDDEN_TAGS else value, fits(alone, tags))
