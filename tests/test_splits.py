"""Published splits in datalists: who claims one keeps its roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iscl_monai.data import Datalist
from iscl_monai.data.splits import check_roles, load_protocol, protocol_names
from iscl_monai.errors import DatalistRefusal, LeakRefusal


def datalist(folder: Path, *, test: str = "L170", noisy: str = "L004", **more: Any) -> Datalist:
    """One scan in each section; the files need only exist."""
    (folder / "scan.nii").touch()
    pair = {"noisy": "scan.nii", "clean": "scan.nii"}
    content = {
        "noisy": [{"image": "scan.nii", "patient": noisy}],
        "clean": [{"image": "scan.nii", "patient": "own clean patient"}],
        "test": [{**pair, "patient": test}],
        **more,
    }
    (folder / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
    return Datalist.load(folder)


def test_a_datalist_may_name_its_split(tmp_path: Path) -> None:
    assert datalist(tmp_path).split_protocol == ""
    test = next(name for name in load_protocol("ldct-bench").test if name.startswith("L"))
    assert datalist(tmp_path, test=test, split_protocol="ldct-bench").split_protocol == "ldct-bench"


def test_training_patients_of_the_split_are_not_tested(tmp_path: Path) -> None:
    trained = load_protocol("ldct-bench").train[0]
    assert datalist(tmp_path, test=trained)  # nothing is claimed, nothing is checked
    with pytest.raises(LeakRefusal, match=f"patient '{trained}' in 'test' is a train patient of ldct-bench"):
        datalist(tmp_path, test=trained, split_protocol="ldct-bench")


def test_test_patients_of_the_split_are_not_trained_on(tmp_path: Path) -> None:
    tested = load_protocol("iscl-tmi2021").test[0]
    with pytest.raises(LeakRefusal, match="in 'noisy' is a test patient of iscl-tmi2021"):
        datalist(tmp_path, test="mine", noisy=tested, split_protocol="iscl-tmi2021")


def test_weights_are_not_chosen_on_test_patients_but_may_be_on_training_ones() -> None:
    split = load_protocol("iscl-tmi2021")
    check_roles("iscl-tmi2021", {"validation": [split.train[0], "mine"]})
    with pytest.raises(LeakRefusal, match="allowed: its train or validation patients"):
        check_roles("iscl-tmi2021", {"validation": [split.test[0]]})


@pytest.mark.parametrize("named", ["ldctbench", 3, None])
def test_an_unknown_split_is_refused(tmp_path: Path, named: object) -> None:
    with pytest.raises(DatalistRefusal, match="allowed: iscl-tmi2021, ldct-bench"):
        datalist(tmp_path, split_protocol=named)


def test_the_splits_are_packaged() -> None:
    assert protocol_names() == ("iscl-tmi2021", "ldct-bench")
