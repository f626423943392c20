"""What is written beside weights about their training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from iscl_monai.training.handlers import ModelWriter


def test_the_iterative_reconstructions_of_both_pools_are_written(tmp_path: Path) -> None:
    def scan(patient: str, reconstruction: str | None) -> SimpleNamespace:
        return SimpleNamespace(patient=patient, reconstruction=reconstruction)

    scans = SimpleNamespace(
        noisy=[scan("a", "ASiR 30"), scan("b", None)],
        clean=[scan("c", "ASiR 30"), scan("d", "AIDR 3D std")],
        validation=[],
        split_protocol=None,
        digest="x",
    )
    parts = cast(Any, {"network": None, "validation": None, "scans": scans})
    ModelWriter(folder=tmp_path, **parts)._record()
    content = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert content["reconstructions"] == ["AIDR 3D std", "ASiR 30"]
    assert content["patients"] == ["a", "b", "c", "d"]
