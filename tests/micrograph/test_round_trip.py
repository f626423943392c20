"""read(write(x)) == x in every container, type, byte order and compression; and a change is what was asked for."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from images import COLUMNS, ROWS, pixels, save_folder, save_mrc, save_png, save_tiff
from PIL import Image
from real_data import real

from iscl_monai.errors import ImageRefusal, OutputRefusal
from iscl_monai.micrograph import MicrographStack, Piece, read_micrographs, write_micrographs
from iscl_monai.micrograph import write as writing
from iscl_monai.micrograph.file import MicrographCopy, MicrographFile
from iscl_monai.micrograph.tiff_codec import decoded, encoded

Grey = np.typing.NDArray[np.float32]

LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "deflated": {"compression": "zlib"},
    "deflated strips": {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
    "deflated differences": {"compression": "zlib", "predictor": True},
    "deflated tiles": {"compression": "zlib", "tile": (16, 32), "predictor": True},
}


def everything(stack: MicrographStack) -> Any:
    return np.stack([stack.stored(section) for section in range(len(stack))])


def nothing(piece: Piece, image: Grey) -> Grey:
    return np.zeros_like(image)


def check_both(source: Path, stored: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Path, Any]:
    """No change gives the same pixels; a change is rounded and clipped, in bands of 9 rows as well as at once."""
    stack = read_micrographs(source)
    np.testing.assert_array_equal(everything(stack), stored)
    np.testing.assert_array_equal(np.stack([*stack]), stored.astype(np.float32))
    same = source.with_name(f"same{source.suffix}")
    written = write_micrographs(stack, same, nothing)
    assert (written.changed, written.clipped.low, written.clipped.high) == (0, 0, 0)
    np.testing.assert_array_equal(everything(read_micrographs(same)), stored)

    monkeypatch.setattr(writing, "BAND_PIXELS", 9 * COLUMNS)
    change = np.random.default_rng(1).normal(0, 40, (ROWS, COLUMNS))
    made = source.with_name(f"made{source.suffix}")
    written = write_micrographs(
        stack, made, lambda piece, image: change[piece.first : piece.first + len(image)], margin=3, whole_pixels=1
    )
    wanted = stored + change.astype(np.float32)
    if stored.dtype.kind != "f":
        limits = np.iinfo(stored.dtype)
        rounded = np.rint(stored + change)
        assert written.clipped.low == (rounded < limits.min).sum()
        assert written.clipped.high == (rounded > limits.max).sum()
        wanted = rounded.clip(limits.min, limits.max)
    again = read_micrographs(made)
    np.testing.assert_array_equal(everything(again), wanted)
    assert written.changed == (wanted != stored).sum()
    assert again.pixel_size_nm == stack.pixel_size_nm
    assert again.spacing_nm == stack.spacing_nm
    assert again.dtype == stack.dtype
    return made, wanted


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, dtype: str, order: str) -> None:
    stored, big = pixels(dtype, 2), dtype == "u2"
    options = {**LAYOUTS[layout], "byteorder": order, "bigtiff": big, "resolution": (1e5, 2e5)}
    source = save_tiff(tmp_path / "a.tif", stored, resolutionunit="CENTIMETER", **options)
    assert read_micrographs(source).pixel_size_nm == (50, 100)
    made, wanted = check_both(source, stored, monkeypatch)
    np.testing.assert_array_equal(tifffile.imread(made), wanted)
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(made) as after:
        assert (after.byteorder, after.is_bigtiff) == (before.byteorder, before.is_bigtiff)
        assert "AI-processed" in after.pages[0].description
        changing = {"ImageDescription", "StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"}
        for one, other in zip(before.pages, after.pages, strict=True):
            assert [tag.code for tag in one.tags] == [tag.code for tag in other.tags]
            kept = [tag.name for tag in one.tags if tag.name not in changing]
            assert [one.tags[name].value for name in kept] == [other.tags[name].value for name in kept]


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lzw_and_packbits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, compression: str, predictor: int
) -> None:
    """Written by libtiff in strips of some rows, read again by libtiff."""
    stored = pixels(dtype)
    source = tmp_path / "a.tif"
    tags = {317: predictor} if compression == "tiff_lzw" else {}
    Image.fromarray(stored[0]).save(source, compression=compression, tiffinfo=tags, strip_size=1000)
    made, wanted = check_both(source, stored, monkeypatch)
    with Image.open(made) as image:
        np.testing.assert_array_equal(np.asarray(image), wanted[0])
    with tifffile.TiffFile(made) as tif:
        assert len(tif.pages[0].dataoffsets) > 1
        assert tif.pages[0].compression.name == {"tiff_lzw": "LZW", "packbits": "PACKBITS"}[compression]
        assert tif.pages[0].predictor == (predictor if tags else 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_segments_of_any_order_and_predictor(compression: int, dtype: str, order: str) -> None:
    values = pixels(dtype)[0].astype(f"{order}{dtype}")
    for predictor in (1, 2):
        data = encoded(values, compression, predictor)
        again = decoded(data, values.shape, values.dtype, compression, predictor)
        assert again.dtype == values.dtype
        np.testing.assert_array_equal(again, values)


def test_nothing_of_the_old_pixels_stays_in_a_compressed_file(tmp_path: Path) -> None:
    """An even image becomes noise, which needs more room than was there."""
    even = np.full((1, ROWS, COLUMNS), 77, np.uint8)
    source = save_tiff(tmp_path / "a.tif", even, compression="zlib", metadata=None)
    noise = np.random.default_rng(0).normal(0, 30, (ROWS, COLUMNS))
    made = tmp_path / "made.tif"
    write_micrographs(read_micrographs(source), made, lambda piece, image: noise)
    with tifffile.TiffFile(source) as tif:
        offset, size = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    assert made.read_bytes()[offset : offset + size] == b"\0" * size
    np.testing.assert_array_equal(tifffile.imread(made), np.rint(77 + noise).clip(0, 255))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    stored = pixels(dtype)
    source = save_png(tmp_path / "a.png", stored, dpi=(254_000, 254_000))
    content = source.read_bytes()
    extra = struct.pack(">I", 4) + b"gAMA" + struct.pack(">I", 45455)
    extra += struct.pack(">I", zlib.crc32(extra[4:]))
    source.write_bytes(content[:33] + extra + content[33:])  # behind the header
    assert read_micrographs(source).pixel_size_nm == (100, 100)
    made, wanted = check_both(source, stored, monkeypatch)
    with Image.open(made) as image:
        np.testing.assert_array_equal(np.asarray(image), wanted[0])
        assert "AI-processed" in image.info["Comment"]
        assert image.info["gamma"] == pytest.approx(0.45455)
        assert image.info["dpi"] == pytest.approx((254_000, 254_000))


@pytest.mark.parametrize("sections", [1, 3])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2"])
def test_mrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, sections: int) -> None:
    stored = pixels(dtype, sections)
    source = save_mrc(tmp_path / "a.mrc", stored, volume=sections > 1)
    made, wanted = check_both(source, stored, monkeypatch)
    with mrcfile.open(made, permissive=False) as file:
        assert "AI-processed" in file.get_labels()[-1]
        np.testing.assert_array_equal(file.data.reshape(stored.shape), wanted)
        assert (file.header.dmin, file.header.dmax) == (file.data.min(), file.data.max())
        assert file.header.rms == pytest.approx(file.data.astype(float).std(), rel=1e-5)
    stack = read_micrographs(made)
    assert stack.pixel_size_nm == pytest.approx((4, 4))
    assert stack.spacing_nm == (None if sections == 1 else pytest.approx(4))


def test_a_folder_becomes_a_folder(tmp_path: Path) -> None:
    stored = pixels("u1", 12)
    source = save_folder(tmp_path / "in", stored, name="s{}.png")
    stack = read_micrographs(source)
    assert stack.numbers == tuple(range(12))
    np.testing.assert_array_equal(everything(stack), stored)
    seen: list[int] = []
    write_micrographs(
        stack, tmp_path / "out", lambda piece, image: np.full_like(image, piece.number), progress=seen.append
    )
    assert sum(seen) == 12
    made = everything(read_micrographs(tmp_path / "out"))
    np.testing.assert_array_equal(made, (stored.astype(int) + np.arange(12)[:, None, None]).clip(0, 255))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in source.iterdir())


def test_real_files_come_back_bit_for_bit(tmp_path: Path) -> None:
    """ImageJ's big-endian TIFF with a calibration, a real MRC, and tifffile's."""
    folder = real("em/em") / "em"
    sizes = {
        folder / "formats" / "042_notsquare.tif": (1e6 / 148262, 1e6 / 296524),
        folder / "formats" / "L4_ts_03_sort_bin8_1img.mrc": None,
        folder / "real_charging" / "SEM_yeast.tif": None,
    }
    for source, size in sizes.items():
        stack = read_micrographs(source)
        made = tmp_path / source.name
        write_micrographs(stack, made, nothing)
        np.testing.assert_array_equal(read_micrographs(made).stored(0), stack.stored(0))
        if size is not None:
            assert stack.pixel_size_nm == pytest.approx(size)
        if source.suffix == ".tif":
            np.testing.assert_array_equal(tifffile.imread(made), tifffile.imread(source))
    with tifffile.TiffFile(tmp_path / "042_notsquare.tif") as tif:
        assert tif.is_imagej
        assert tif.imagej_metadata["unit"] == "nm"
        assert tif.imagej_metadata["Info"] == "Software: tifffile.py\n"


OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{uuid}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="70" SizeY="50" SizeZ="2" SizeC="1"
 SizeT="1"><Channel ID="Channel:0:0"/>
<TiffData FirstZ="{first}" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:{uuid}</UUID></TiffData>
<TiffData FirstZ="{second}" IFD="1" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:{uuid}</UUID></TiffData>
</Pixels></Image></OME>"""


def save_ome(path: Path, stored: Any, first: int, second: int) -> Path:
    text = OME.format(uuid="91be4538-eced-11f1-92dc-02fc00000001", first=first, second=second)
    return save_tiff(path, stored, description=text, metadata=None)


def test_ome_names_its_own_file_and_not_the_original(tmp_path: Path) -> None:
    """Readers of OME open the file that it names, and here that is the original beside it."""
    stored = pixels("u1", 2)
    source = save_ome(tmp_path / "a.ome.tif", stored, 0, 1)
    made = tmp_path / "<b> & c.ome.tif"
    for place in (made, tmp_path / "again" / made.name):
        write_micrographs(read_micrographs(source), place, lambda piece, image: np.full_like(image, 1))
    assert made.read_bytes() == (tmp_path / "again" / made.name).read_bytes()
    with tifffile.TiffFile(made) as tif:
        text = tif.ome_metadata
        np.testing.assert_array_equal(tif.asarray(), np.minimum(stored, 254) + 1)
    assert text.count('FileName="&lt;b&gt; &amp; c.ome.tif"') == 2
    assert "a.ome.tif" not in text
    assert "91be4538" not in text
    assert len(set(re.findall("urn:uuid:[0-9a-f-]{36}", text))) == 1


def test_ome_whose_pages_are_in_another_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRefusal, match="another order than its OME's sections"):
        read_micrographs(save_ome(tmp_path / "a.ome.tif", pixels("u1", 2), 1, 0))


def test_imagej_and_ome_stay_what_they_are(tmp_path: Path) -> None:
    stored = pixels("u2", 3)
    imagej = tmp_path / "ij.tif"
    tifffile.imwrite(
        imagej,
        stored,
        imagej=True,
        resolution=(0.25, 0.25),
        metadata={"unit": "nm", "spacing": 30.0, "axes": "ZYX", "Labels": ["a", "b", "c"]},
    )
    ome = tmp_path / "o.ome.tif"
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 0.004,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 4.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 300.0,
        "PhysicalSizeZUnit": "Å",
    }
    tifffile.imwrite(ome, stored, ome=True, photometric="minisblack", metadata=metadata)
    for source in (imagej, ome):
        stack = read_micrographs(source)
        assert stack.pixel_size_nm == pytest.approx((4, 4))
        assert stack.spacing_nm == pytest.approx(30)
        write_micrographs(stack, tmp_path / f"made_{source.name}", lambda piece, image: np.ones_like(image))
    with tifffile.TiffFile(tmp_path / "made_ij.tif") as tif:
        assert tif.imagej_metadata["Labels"] == ["a", "b", "c"]
        assert "AI-processed" in tif.imagej_metadata["derivation"]
    with tifffile.TiffFile(tmp_path / "made_o.ome.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].shape == stored.shape
        assert "<!-- AI-processed" in tif.ome_metadata


def test_a_file_without_a_description_gets_one(tmp_path: Path) -> None:
    for big in (False, True):
        source = save_tiff(tmp_path / f"a{big}.tif", pixels(), metadata=None, bigtiff=big, software=False)
        with tifffile.TiffFile(source) as tif:
            assert "ImageDescription" not in tif.pages[0].tags
        made = tmp_path / f"made{big}.tif"
        write_micrographs(read_micrographs(source), made, nothing, note="SIMULATED")
        with tifffile.TiffFile(made) as tif:
            assert tif.pages[0].description == "derivation=SIMULATED"
            codes = [tag.code for tag in tif.pages[0].tags]
            assert codes == sorted(codes)


def test_ten_labels_are_enough(tmp_path: Path) -> None:
    source = save_mrc(tmp_path / "a.mrc", pixels("u2"))
    with mrcfile.open(source, mode="r+") as file:
        for index in range(1, 10):
            file.add_label(f"label {index}")
    write_micrographs(read_micrographs(source), tmp_path / "made.mrc", nothing)
    with mrcfile.open(tmp_path / "made.mrc") as file:
        labels = file.get_labels()
    assert len(labels) == 10
    assert "AI-processed" in labels[-1]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".mrc"])
def test_what_reads_back_differently_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    save = {".tif": save_tiff, ".png": save_png, ".mrc": save_mrc}[suffix]
    stack = read_micrographs(save(tmp_path / f"a{suffix}", pixels("u2")))
    kind = type(stack.files[0])
    copy = kind.copy

    def bad_copy(self: MicrographFile, destination: Path, note: str) -> MicrographCopy:
        made = copy(self, destination, note)
        write = made.write
        monkeypatch.setattr(made, "write", lambda section, top, stored: write(section, top, stored ^ 1))
        return made

    monkeypatch.setattr(kind, "copy", bad_copy)
    with pytest.raises(OutputRefusal, match="reads back differently"):
        write_micrographs(stack, tmp_path / f"made{suffix}", nothing)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_a_destination_of_another_kind_or_taken(tmp_path: Path) -> None:
    stack = read_micrographs(save_tiff(tmp_path / "a.tif", pixels()))
    with pytest.raises(OutputRefusal, match=r"give e.g. .*b\.tif"):
        write_micrographs(stack, tmp_path / "b.png", nothing)
    with pytest.raises(OutputRefusal, match="exists"):
        write_micrographs(stack, tmp_path / "a.tif", nothing)


def test_a_change_of_another_shape_or_without_end_is_a_fault(tmp_path: Path) -> None:
    stack = read_micrographs(save_tiff(tmp_path / "a.tif", pixels()))
    for wrong in (np.zeros((1, 1)), np.full((ROWS, COLUMNS), np.nan)):
        with pytest.raises(ValueError, match="a change of shape"):
            write_micrographs(stack, tmp_path / "b.tif", lambda piece, image, wrong=wrong: wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_bands_have_their_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BAND_PIXELS", 20 * COLUMNS)
    stack = read_micrographs(save_tiff(tmp_path / "a.tif", pixels()))
    seen: list[tuple[Piece, int]] = []

    def change(piece: Piece, image: Grey) -> Grey:
        np.testing.assert_array_equal(image, stack.grey(0)[piece.first : piece.first + len(image)])
        seen.append((piece, len(image)))
        return np.zeros_like(image)

    write_micrographs(stack, tmp_path / "b.tif", change, margin=4, whole_pixels=1)
    assert [(piece.top, piece.bottom, piece.first, rows) for piece, rows in seen] == [
        (0, 20, 0, 24),
        (20, 40, 16, 28),
        (40, 50, 36, 14),
    ]
    seen.clear()
    write_micrographs(stack, tmp_path / "c.tif", change, margin=4)
    assert [(piece.top, piece.bottom) for piece, _ in seen] == [(0, 50)]
