"""What is said of a reconstruction that the weights have not seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iscl_monai.inference.reconstructions import warning_of


def bundle(folder: Path, content: object) -> Path:
    (folder / "models").mkdir()
    (folder / "models" / "training.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


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
    found = warning_of(names, bundle(tmp_path, {"patients": [], "reconstructions": trained}))
    assert words in found
    assert bool(words) == bool(found)
    assert "\n" not in found


@pytest.mark.parametrize("content", [{"patients": []}, [], {"reconstructions": "none"}])
def test_weights_that_do_not_say(tmp_path: Path, content: object) -> None:
    expected = "iterative reconstruction (ASiR 50); the weights do not say whether they have seen any"
    assert warning_of(["ASiR 50"], bundle(tmp_path, content)) == expected
    assert warning_of(["ASiR 50"], tmp_path / "absent") == expected
    assert warning_of([""], tmp_path / "absent") == ""
