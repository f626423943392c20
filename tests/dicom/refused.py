"""What reading a series is refused with."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscl_monai.dicom.series import read_series
from iscl_monai.errors import DicomRefusal


def refusal(path: Path, **options: object) -> DicomRefusal:
    with pytest.raises(DicomRefusal) as caught:
        read_series(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert "allowed:" in message
    assert "do:" in message
    return caught.value
