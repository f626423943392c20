"""Multi-frame images, refused or written again, for the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, settings
from pydicom.dataset import Dataset, FileDataset

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import DicomRefusal, Refusal

SEVERAL = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
NETWORK: dict[str, Any] = {"model": "model", "version": "2", "parameters": {"strength": "0.8"}, "moment": MOMENT}
DERIVATION = Derivation.by_network(**NETWORK, weights_digest="ab" * 32)
GEOMETRY = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence")
NOT_OF_THE_PIXELS = {"DerivationImageSequence", "CTImageFrameTypeSequence"}
DICOM3TOOLS = "/usr/bin/dciodvfy"
DCMDUMP = "/usr/bin/dcmdump"


def refusal(path: Path) -> DicomRefusal:
    """What reading a file to its end is refused with."""
    with pytest.raises(DicomRefusal) as caught, without_warnings():
        list(open_enhanced(path).slices())
    return one_line_with_a_cure(caught.value)


def one_line_with_a_cure(caught: Refusal) -> DicomRefusal:
    message = str(caught)
    assert "\n" not in message
    assert "allowed:" in message
    assert "do:" in message
    return caught  # type: ignore[return-value]


def derive(path: Path, folder: Path, derivation: Derivation = DERIVATION, *, add: int = 0) -> Dataset:
    """Write every frame again, ``add`` to each stored value, and read the result."""
    folder.mkdir(parents=True, exist_ok=True)
    image = open_enhanced(path)
    with without_warnings(), EnhancedWriter(image, derivation, folder) as writer:
        for index, one in enumerate(image.slices()):
            writer.write(index, one.changed(np.full(one.stored.shape, add * one.slope)))
        written = writer.finish()
    assert os.listdir(folder) == ["00001.dcm"] == [written.name]
    return pydicom.dcmread(written)


def frames_of(dataset: Dataset) -> list[Dataset]:
    return list(dataset.PerFrameFunctionalGroupsSequence)


def setting(**elements: object) -> Callable[[FileDataset], None]:
    return lambda dataset: [setattr(dataset, *element) for element in elements.items()] and None


def check_groups(source: Dataset, derived: Dataset) -> None:
    """All functional groups are the same, except what tells that the frames are derived."""
    pairs = [(source.SharedFunctionalGroupsSequence[0], derived.SharedFunctionalGroupsSequence[0])]
    pairs += zip(frames_of(source), frames_of(derived), strict=True)
    for before, after in pairs:
        assert {element.keyword for element in after} - {element.keyword for element in before} <= NOT_OF_THE_PIXELS
        for element in before:
            if element.keyword not in NOT_OF_THE_PIXELS and not element.keyword.startswith("Unassigned"):
                assert after[element.tag] == element
    assert all(any(keyword in one for _, one in pairs) for keyword in GEOMETRY)
