"""Made-up patients of a benchmark: drawn anew, and the same again on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iscl_monai.evaluation.benchmark import virtual
from iscl_monai.evaluation.benchmark.score import loaded
from iscl_monai.evaluation.benchmark.virtual import virtual_pairs
from iscl_monai.quality.protocol import TRUTH_RANDOM_ANATOMY


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "SETTINGS", {"size": 64, "spacing_mm": 5.4, "slices": 1, "fraction": 0.25})


def test_the_seed_is_told_and_draws_the_same_patients_again(tmp_path: Path) -> None:
    lines: list[str] = []
    first = virtual_pairs(tmp_path / "a", 1, None, tell=lines.append)
    seed = int(lines[0].rpartition("--virtual-seed ")[2].partition(" ")[0])
    going_on = virtual_pairs(tmp_path / "a", 1, None, tell=lines.append)
    again = virtual_pairs(tmp_path / "b", 1, seed, tell=lines.append)
    other = virtual_pairs(tmp_path / "c", 1, seed + 1, tell=lines.append)
    truths = [next(loaded(pairs)).truth_hu for pairs in (first, going_on, again, other)]
    assert truths[0] is not None
    assert np.array_equal(truths[0], truths[1])  # type: ignore[arg-type]
    assert np.array_equal(truths[0], truths[2])  # type: ignore[arg-type]
    assert not np.array_equal(truths[0], truths[3])  # type: ignore[arg-type]
    assert first[0].truth_protocol == TRUTH_RANDOM_ANATOMY.name


def test_none_are_made_unless_asked_for(tmp_path: Path) -> None:
    assert virtual_pairs(tmp_path, 0, None, tell=pytest.fail) == ()
    assert not list(tmp_path.iterdir())
