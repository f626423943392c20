"""What is said of a reconstruction that the weights have not seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.reconstructions import unseen_reconstructions


def record(folder: Path, content: object) -> TrainingRecord:
    (folder / "models").mkdir()
    (folder / "models" / "training.json").write_text(json.dumps(content), encoding="utf-8")
    return TrainingRecord.of_bundle(folder)


@pytest.mark.parametrize(
    ("names", "trained", "words"),
    [
        ([""], [], ""),
        (["ASiR 50", ""], [], "iterative reconstruction (ASiR 50), which the weights have not seen (none seen)"),
        (["ASiR 50"], ["ASiR 30"], ""),
        (["ASiR-V 50"], ["ASiR 30"], "(ASiR-V 50), which the weights have not seen (ASiR 30 seen)"),
        (["AIDR 3D std"], ["AIDR 3D mild"], ""),
        (["SAFIRE 3", "ADMIRE 3"], ["SAFIRE 2"], "(ADMIRE 3)"),
    ],
)
def test_unseen_reconstructions_are_named(tmp_path: Path, names: list[str], trained: list[str], words: str) -> None:
    known = record(tmp_path, {"patients": [], "reconstructions": trained}).reconstructions
    found = unseen_reconstructions(names, known)
    assert [words in one.sentence for one in found] == [True] * bool(words)
    assert all("\n" not in one.sentence + one.short for one in found)


@pytest.mark.parametrize("content", [{"patients": []}, [], {"reconstructions": "none"}])
def test_weights_that_do_not_say(tmp_path: Path, content: object) -> None:
    expected = "iterative reconstruction (ASiR 50); the weights do not say whether they have seen any"
    for silent in (record(tmp_path, content), TrainingRecord.of_bundle(tmp_path / "absent")):
        (found,) = unseen_reconstructions(["ASiR 50"], silent.reconstructions)
        assert found.sentence == expected
        assert unseen_reconstructions([""], silent.reconstructions) == []
