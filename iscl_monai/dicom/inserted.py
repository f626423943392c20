"""What a series says of the noise that was inserted into it: at which dose it was simulated."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pydicom

from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.images import is_image_file


def text_of(file: Path, keyword: str) -> str:
    """A text of a DICOM file's header; empty where it is absent."""
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[keyword], force=True)
    return str(dataset.get(keyword) or "").strip()


def inserted_dose(derivation: str) -> float | None:
    """Dose over that of the scan that it was simulated from, 0 to 1; None: the text does not say it.

    Args:
        derivation: DerivationDescription, as :mod:`data_prep.dose.header` words it.
    """
    found = re.search(r"Noise inserted as for ([0-9.]+) of the dose", derivation)
    dose = float(found[1]) if found else math.nan
    return dose if 0 < dose < 1 else None


def inserted_dose_of(path: Path, series_uid: str | None = None) -> float | None:
    """The same of a scan on disk; None for files that are no DICOM, too, and where no one series is meant.

    Args:
        path: DICOM folder or file, or a volume file.
        series_uid: which series, when the folder holds several.
    """
    if is_image_file(path) or not path.exists():
        return None
    series = find_series(path, series_uid=series_uid).series
    meant = [files for files in series if series_uid in (None, files.headers[0].series_uid)]
    return inserted_dose(text_of(meant[0].headers[0].path, "DerivationDescription")) if len(meant) == 1 else None
