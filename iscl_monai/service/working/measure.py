"""Measures what rules may ask of a series beyond its tags: ``python -m iscl_monai.service.working.measure FILE...``.

A process of its own, as a decoder may crash on a damaged image. Prints one JSON object; what cannot be found out is "".
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.service.working.measured_tags import SLICES


def _measure_here(files: Sequence[Path]) -> dict[str, str]:
    with without_warnings():
        headers = [read_header(file) for file in files]
        noises = [noise_sigma_hu(slice_.hu()) for header in headers for slice_ in _slices(header)]
    known = [noise for noise in noises if noise == noise]
    names = [header.reconstruction for header in headers if header.reconstruction]
    noise = f"{statistics.median(known):.4g}" if known else ""
    return {"reconstruction": names[0] if names else "", "noise": noise}


def _slices(header: SliceHeader) -> list[StoredSlice]:
    if header.sop_class in MULTIFRAME_CT:
        return list(islice(open_enhanced(header.path).slices(), SLICES))
    return [load_slice(header)[0]]


if __name__ == "__main__":
    print(json.dumps(_measure_here([Path(name) for name in sys.argv[1:]])))
