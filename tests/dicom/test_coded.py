"""A compressed stream says how large its image is; what says something else than the header is not decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames
from real_data import real
from service import hostile

from iscl_monai.dicom.coded import other_size
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.errors import DicomRefusal

HUGE = {
    "JPEG 2000": (hostile.JPEG_2000, hostile.jpeg_2000(65535, 65535)),
    "in JP2": (hostile.JPEG_2000, b"\0\0\0\x0cjP  \r\n\x87\n" + hostile.jpeg_2000(65535, 65535)),
    "after another": (hostile.JPEG_2000, hostile.jpeg_2000(16, 16) + hostile.jpeg_2000(65535, 65535)),
    "JPEG-LS": (hostile.JPEG_LS, hostile.jpeg(65535, 65535, 0xF7)),
    "JPEG": (hostile.JPEG, hostile.jpeg(65535, 65535, 0xC3)),
    "JPEG with filler": (hostile.JPEG, b"\xff\xd8\xff\xff\xe0\0\4ab" + hostile.jpeg(65535, 65535, 0xC3)[2:]),
}


@pytest.mark.parametrize("name", HUGE)
def test_small_header_and_huge_stream_are_refused_undecoded(name: str, tmp_path: Path) -> None:
    """Decoding it takes 17 GB and a minute and a half, or ends the process."""
    syntax, stream = HUGE[name]
    assert other_size([stream], 65535, 65535) == ("16x16 with 1 component(s)" if name == "after another" else "")
    assert other_size([stream], 16, 16) == "65535x65535 with 1 component(s)"
    path = tmp_path / "slice.dcm"
    path.write_bytes(hostile.big(stream, syntax, hostile.SIDE, hostile.SIDE))
    with pytest.raises(DicomRefusal, match="PixelData is a compressed image of 65535x65535"):
        load_slice(read_header(path))


def test_many_components_are_refused() -> None:
    stream = hostile.jpeg(16, 16, 0xC3).replace(b"\0\x10\0\x10\1", b"\0\x10\0\x10\xff")
    assert other_size([stream], 16, 16) == "16x16 with 255 component(s)"


def test_real_streams_say_what_their_headers_say() -> None:
    tried = 0
    for path in sorted(real("robust/robust_transfer_syntaxes").iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
        count = int(dataset.get("NumberOfFrames", 1))
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated and syntax != hostile.RLE and dataset.SamplesPerPixel == 1:
            frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
            assert other_size(frames, dataset.Rows, dataset.Columns) == ""
            assert other_size(frames, dataset.Rows + 1, dataset.Columns).startswith(f"{dataset.Rows}x")
            tried += 1
    assert tried > 8
