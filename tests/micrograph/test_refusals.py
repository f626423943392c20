"""What is no grey micrograph is refused in one line, with the cure."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from images import COLUMNS, ROWS, pixels, save_folder, save_mrc, save_png, save_tiff
from PIL import Image

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph import MicrographStack, is_micrograph, read_micrographs

Make = Callable[[Path], Any]
GREY = pixels()[0]
RGB = np.stack([GREY] * 3, -1)


def patched_mrc(**words: Any) -> Make:
    def make(path: Path) -> None:
        save_mrc(path, pixels("i2", 2))
        with mrcfile.open(path, mode="r+", permissive=True) as file:
            for name, value in words.items():
                file.header[name] = value

    return make


def imod_bytes(path: Path) -> None:
    save_mrc(path, pixels("i1"))
    content = bytearray(path.read_bytes())
    content[152:156] = (1146047817).to_bytes(4, "little")
    path.write_bytes(content)


def not_finite(path: Path) -> None:
    stored = pixels("f4", 2)
    stored[1, 3, 4] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):
        save_mrc(path, stored)


def cut(make: Make) -> Make:
    def made(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[:-9])

    return made


def damaged_png(path: Path) -> None:
    save_png(path, pixels())
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


def two_sizes(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(GREY)
        file.write(GREY[:-1])


def pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, subifds=1, metadata=None)
        file.write(GREY[::2, ::2], subfiletype=1, metadata=None)


def shared_strips(path: Path) -> None:
    save_tiff(path, pixels("u1", 2), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[1].tags["StripOffsets"].overwrite(tif.pages[0].dataoffsets[0])


def tiff(array: Any, **options: Any) -> Make:
    return lambda path: tifffile.imwrite(path, array, **options)


def picture(mode: str, **options: Any) -> Make:
    return lambda path: Image.fromarray(RGB).convert(mode).save(path, **options)


def transparent(path: Path) -> None:
    Image.fromarray(GREY).save(path, transparency=0)


CASES: dict[str, tuple[str, Make, str]] = {
    "RGB": ("a.tif", tiff(RGB, photometric="rgb"), "RGB.*allowed: one grey channel.*ImageJ"),
    "RGBA": ("a.tif", tiff(np.stack([GREY] * 4, -1), photometric="rgb"), "RGB with alpha"),
    "grey with alpha": (
        "a.tif",
        tiff(np.stack([GREY] * 2, -1), photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"),
        "2 samples per pixel with alpha",
    ),
    "palette": (
        "a.tif",
        tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)),
        "a palette.*one grey channel",
    ),
    "JPEG in TIFF": ("a.tif", picture("L", compression="jpeg"), "JPEG compression.*uncompressed or as ZIP"),
    "LZMA": ("a.tif", tiff(GREY, compression="lzma"), "compression LZMA.*none, ZIP, LZW or PackBits.*tiffcp"),
    "inverted": ("a.tif", tiff(GREY, photometric="miniswhite"), "0 is white.*invert"),
    "float TIFF": ("a.tif", tiff(GREY.astype("f4")), "32-bit floating numbers.*MRC only.*16-bit"),
    "complex TIFF": ("a.tif", tiff(GREY.astype("c8")), "complex numbers"),
    "32-bit TIFF": ("a.tif", tiff(GREY.astype("u4")), "uint32.*8 or 16 bits"),
    "one bit": ("a.tif", picture("1"), "1 bits? per pixel|one bit per pixel"),
    "sizes": ("a.tif", two_sizes, r"size \(50, 70\) in page 0, \(49, 70\) in page 1"),
    "pyramid": ("a.tif", pyramid, "a pyramid.*full resolution"),
    "channels of OME": (
        "a.ome.tif",
        tiff(pixels("u1", 2), ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
        "2 channels.*each channel",
    ),
    "times of OME": (
        "a.ome.tif",
        tiff(pixels("u1", 2), ome=True, photometric="minisblack", metadata={"axes": "TYX"}),
        "2 times",
    ),
    "channels of ImageJ": ("a.tif", tiff(pixels("u1", 2), imagej=True, metadata={"axes": "CYX"}), "2 channels"),
    "times of ImageJ": ("a.tif", tiff(pixels("u1", 2), imagej=True, metadata={"axes": "TYX"}), "2 times"),
    "sections that are no pages": (
        "a.tif",
        tiff(GREY, description="ImageJ=1.53t\nimages=3\nslices=3\n", metadata=None),
        "3 sections by its description, 1 pages",
    ),
    "shared strips": ("a.tif", shared_strips, "share bytes"),
    "TIFF cut short": ("a.tif", cut(tiff(GREY, metadata=None)), "not readable.*copy the file again"),
    "no TIFF": ("a.tif", lambda path: path.write_bytes(b"<html>"), "not readable"),
    "empty": ("a.tif", lambda path: path.write_bytes(b""), "an empty file"),
    "absent": ("a.tif", lambda path: None, "no such file"),
    "RGB PNG": ("a.png", picture("RGB"), "RGB.*one grey channel"),
    "RGBA PNG": ("a.png", picture("RGBA"), "RGBA"),
    "palette PNG": ("a.png", picture("P"), "a palette"),
    "alpha PNG": ("a.png", picture("LA"), "grey with alpha"),
    "transparent PNG": ("a.png", transparent, "grey with transparency"),
    "bits of PNG": ("a.png", picture("1"), "1 bits per pixel"),
    "PNG cut short": ("a.png", cut(picture("L")), "not readable"),
    "damaged PNG": ("a.png", damaged_png, "not readable.*damaged"),
    "JPEG": ("a.jpg", picture("L"), "changes its noise.*original of the microscope"),
    "unknown": ("a.xyz", lambda path: path.write_bytes(b"abc"), "no known container.*convert it"),
    "complex MRC": ("a.mrc", lambda path: save_mrc(path, pixels("f4").astype("c8")), r"mode 4 \(complex float32\)"),
    "half floats": ("a.mrc", lambda path: save_mrc(path, pixels("f4").astype("f2")), r"mode 12 \(float16\)"),
    "NaN": ("a.mrc", not_finite, "1 of .* pixels are NaN or infinite.*nan_to_num"),
    "MRC cut short": ("a.mrc", cut(lambda path: save_mrc(path, pixels("i2"))), "not readable"),
    "longer MRC": (
        "a.mrc",
        lambda path: save_mrc(path, pixels("i2")).write_bytes(path.read_bytes() + b"more"),
        "not readable",
    ),
    "unsigned bytes of IMOD": ("a.mrc", imod_bytes, "IMOD wrote without a sign.*newstack"),
    "turned axes": ("a.mrc", patched_mrc(mapc=2, mapr=1), r"axes \(2, 1, 3\)"),
    "volumes": ("a.mrc", patched_mrc(ispg=401, mz=1), "shape .*one volume"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path: Path, name: str) -> None:
    file, make, words = CASES[name]
    make(tmp_path / file)
    with pytest.raises(ImageRefusal, match=words) as caught:
        read_micrographs(tmp_path / file)
    assert "\n" not in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_a_large_png_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = save_png(tmp_path / "a.png", pixels())
    content = bytearray(path.read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(ImageRefusal, match=r"30000 x 30000 pixels.*save it as TIFF"):
        read_micrographs(path)


def folder_of(place: Path, count: int = 6, **options: Any) -> Path:
    return save_folder(place / "in", pixels("u1", count), **options)


def lose(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def put(name: str, make: Make) -> Callable[[Path], object]:
    return lambda folder: make(folder / name)


def other(**options: Any) -> Make:
    stored = options.pop("stored", pixels())
    return lambda path: save_tiff(path, stored, **options)


MM = {"resolution": (1e5, 1e5), "resolutionunit": "CENTIMETER"}
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "sizes": (put("z00006.tif", other(stored=pixels()[:, :-1])), r"size \(49, 70\), but \(50, 70\) in z00000.tif"),
    "types": (put("z00006.tif", other(stored=pixels("u2"))), "type uint16, but uint8"),
    "resolutions": (put("z00006.tif", other(**MM)), r"pixels of \(100.0, 100.0\), but unknown size.*resolution"),
    "kinds": (put("z00006.png", lambda path: save_png(path, pixels())), "PNG and TIFF files.*two folders"),
    "empty": (put("z00006.tif", lambda path: path.write_bytes(b"")), "an empty file"),
    "hole": (lose("z00003.tif"), "number 2, and 4 comes next where 3 should.*missing files"),
    "twice": (put("z3.tif", other()), "one file per number|the number of"),
    "stacks": (put("z00006.tif", other(stored=pixels("u1", 3))), "3 sections; allowed: one per file.*stack by itself"),
    "half copied": (put("z00006.tif.part", lambda path: path.write_bytes(b"II*")), "maybe a lost section"),
    "converted": (put("z00006.jpg", picture("L")), "maybe a lost section"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_refused_folder(tmp_path: Path, name: str) -> None:
    spoil, words = FOLDERS[name]
    folder = folder_of(tmp_path)
    assert len(read_micrographs(folder)) == 6
    spoil(folder)
    with pytest.raises(ImageRefusal, match=words):
        read_micrographs(folder)


def test_a_folder_without_micrographs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ImageRefusal, match="none of its 1 files is a micrograph"):
        read_micrographs(tmp_path)


def test_holes_may_be_meant(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    lose("z00003.tif")(folder)
    assert read_micrographs(folder, allow_holes=True).numbers == (0, 1, 2, 4, 5)


def test_names_that_are_not_counted_evenly_have_no_holes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 7, 30, 31):
        save_tiff(folder / f"s{number}.tif", pixels())
    assert read_micrographs(folder).numbers == (1, 2, 7, 30, 31)


def test_natural_order_and_what_is_left_aside(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, count=11, name="s{}.tif")
    (folder / "notes.txt").write_text("of the session")
    (folder / "s3.txt").write_text("of this section")
    (folder / "s4.tif.json").write_text("{}")
    (folder / ".DS_Store").write_bytes(b"hidden")
    (folder / "other").mkdir()
    stack = read_micrographs(folder)
    assert [file.path.stem for file in stack.files] == [f"s{index}" for index in range(11)]
    assert sorted(path.name for path in stack.left_aside) == ["notes.txt", "other", "s3.txt", "s4.tif.json"]
    assert stack.numbers == tuple(range(11))


def test_a_section_has_its_number_when_it_is_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, count=1, first=7)
    assert read_micrographs(folder).numbers == (7,)
    save_tiff(folder / "z00007.tif", pixels("u1", 3))
    assert read_micrographs(folder).numbers == (0, 1, 2)
    assert read_micrographs(folder / "z00007.tif").numbers == (0, 1, 2)


def test_what_a_stack_says(tmp_path: Path) -> None:
    stack = read_micrographs(save_tiff(tmp_path / "a.tif", pixels("i2", 3)))
    assert isinstance(stack, MicrographStack)
    assert (stack.rows, stack.columns, len(stack), stack.kind) == (ROWS, COLUMNS, 3, "TIFF")
    assert stack.grey_range == (-32768, 32767)
    assert (stack.pixel_size_nm, stack.spacing_nm, stack.numbers) == (None, None, (0, 1, 2))
    assert stack.grey(1).dtype == np.float32
    np.testing.assert_array_equal(stack.stored(2, 10, 12), pixels("i2", 3)[2, 10:12])
    with pytest.raises(IndexError, match="section 3 of 3"):
        stack.grey(3)
    assert read_micrographs(save_mrc(tmp_path / "a.mrc", pixels("f4"))).grey_range is None


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.mrc"])
def test_a_stack_goes_to_another_process(tmp_path: Path, name: str) -> None:
    save = {"a.tif": save_tiff, "a.png": save_png, "a.mrc": save_mrc}[name]
    stack = read_micrographs(save(tmp_path / name, pixels("u2")))
    again = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(again.stored(0), stack.stored(0))


def test_a_resolution_for_the_screen_is_none(tmp_path: Path) -> None:
    assert read_micrographs(save_tiff(tmp_path / "a.tif", pixels(), resolution=(72, 72))).pixel_size_nm is None
    path = save_png(tmp_path / "a.png", pixels(), dpi=(300, 300))
    assert read_micrographs(path).pixel_size_nm is None


def test_names() -> None:
    assert is_micrograph(Path("A.TIF"))
    assert not is_micrograph(Path("a.jpg"))
