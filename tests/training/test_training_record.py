"""What is written beside weights about their training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from dicom.synthetic import Series, setting

from iscl_monai.inference import TrainingRecord
from iscl_monai.quality.composition import COMPOSITION
from iscl_monai.training.handlers import ModelWriter
from iscl_monai.transforms import loading


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


def test_what_scans_are_compared_with_is_written_of_both_pools(tmp_path: Path) -> None:
    """As scans are read for a training."""

    def pool(name: str, pixel_mm: float, thickness_mm: float) -> list[Any]:
        change = setting(Manufacturer="GE MEDICAL", ConvolutionKernel=name.upper(), BodyPartExamined="CHEST")
        spacing = {"pixel_spacing_mm": (pixel_mm, pixel_mm), "spacing_mm": thickness_mm}
        made = Series(rows=64, columns=64, change=change, **spacing)
        made.write(tmp_path / name)
        return [loading("image")({"image": tmp_path / name})]

    scans = SimpleNamespace(noisy=[], clean=[], validation=[], split_protocol=None, digest="x")
    parts = cast(Any, {"network": None, "validation": None, "scans": scans})
    pools = [pool("noisy", 0.75, 1.0), pool("clean", 0.5, 5.0)]
    ModelWriter(folder=tmp_path, pools=pools, **parts)._record()
    content = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(content["pixel_mm"], [0.5, 0.75])
    np.testing.assert_allclose(content["thickness_mm"], [1.0, 5.0])
    least, largest = content["noise"]["noise"]
    assert 10 < least <= largest < 40
    assert content["composition"].keys() == set(COMPOSITION)
    assert all(0 < least <= largest for least, largest in content["composition"].values())
    assert content["kernels"] == {"GE": ["CLEAN", "NOISY"]}
    assert content["body_parts"] == ["CHEST"]
    record = TrainingRecord.of_weights(tmp_path / "model.pt")
    assert (record.composition, record.kernels) == (content["composition"], content["kernels"])
    assert record.knows_noise == ("fineness" in content["noise"])
