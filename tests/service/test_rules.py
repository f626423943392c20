"""The words of a rule, and which series it fits."""

from __future__ import annotations

import pytest

from iscl_monai.service.rules import Rule, fits, matching_rule


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        ("CT", "CT", True),
        ("ct", "CT", True),
        ("AXIAL", "ORIGINAL\\PRIMARY\\AXIAL", True),
        ("AXI", "ORIGINAL\\PRIMARY\\AXIAL", False),
        ("~AXI", "ORIGINAL\\PRIMARY\\AXIAL", True),
        ("~^PRIMARY", "ORIGINAL\\PRIMARY\\AXIAL", False),
        ("!DERIVED", "ORIGINAL\\PRIMARY", True),
        ("!DERIVED", "DERIVED\\SECONDARY", False),
        ("!~^B[67]", "B30f", True),
        ("!~^B[67]", "B70f", False),
        ("<=1.5", "1.5", True),
        ("<1.5", "1.5", False),
        ("<1.5", "1.25", True),
        (">3", "3.0", False),
        (">=3", "3.0", True),
        (">=3", "", False),
        ("<3", "", False),
        ("<3", "thin", False),
        ("", "", True),
    ],
)
def test_conditions(test: str, value: str, holds: bool) -> None:
    rule = Rule(name="r", when={"ImageType": test}, send_to=("p",))
    assert fits(rule, {"ImageType": value}) is holds


def test_all_tags_must_hold_and_one_of_a_list() -> None:
    rule = Rule(name="r", when={"Modality": "CT", "KVP": ("80", "100")}, send_to=("p",))
    assert fits(rule, {"Modality": "CT", "KVP": "100"})
    assert not fits(rule, {"Modality": "CT", "KVP": "120"})
    assert not fits(rule, {"Modality": "MR", "KVP": "100"})
    assert not fits(rule, {})


def test_the_first_rule_that_fits_decides() -> None:
    rules = [Rule(name=name, when=when, send_to=("p",)) for name, when in (("a", {"KVP": "80"}), ("b", {}), ("c", {}))]
    chosen = [matching_rule(rules, {"KVP": kvp}) for kvp in ("80", "120")]
    assert [rule and rule.name for rule in chosen] == ["a", "b"]
    assert matching_rule([], {"KVP": "80"}) is None
