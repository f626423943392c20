"""A mosaic larger than what a network takes is read and written in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

SIDE = 6000
BOUND_MB = 150
"""Bands of 4 million pixels: float32, its change, float64 while it is rounded; measured 112 to 115."""

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from iscl_monai.micrograph import read_micrographs, write_micrographs

def peak():  # of this process alone: getrusage counts that of the one it was forked from, too
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

source, made, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
small = source.with_name("small" + source.suffix)
write_micrographs(read_micrographs(small), small.with_name("same" + source.suffix), lambda piece, image: 0 * image)
before = peak()  # whatever is imported
write_micrographs(read_micrographs(source), made, lambda piece, image: np.ones_like(image), margin=32)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.untraced_programs
@pytest.mark.parametrize("layout", ["one strip", "deflated tiles"])
def test_a_mosaic_is_written_in_bounded_memory(tmp_path: Path, layout: str) -> None:
    """36 million pixels: 144 MB as float32, 288 MB as float64, several times."""
    row = np.arange(SIDE) // 100
    mosaic = (row[:, None] + row[None]).astype(np.uint8)
    options: dict[str, Any] = {} if layout == "one strip" else {"tile": (512, 512), "compression": "zlib"}
    source = tmp_path / "mosaic.tif"
    tifffile.imwrite(source, mosaic, photometric="minisblack", **options)
    tifffile.imwrite(tmp_path / "small.tif", mosaic[:64, :64], photometric="minisblack")
    command = [sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "made.tif"), str(SIDE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < BOUND_MB
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "made.tif"), mosaic + 1)
