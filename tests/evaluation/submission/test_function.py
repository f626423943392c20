"""A submitted function is tried before it is used, and checked whenever it is called."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from iscl_monai.baselines import ClassicalFilter
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.evaluation.benchmark.methods import chosen
from iscl_monai.evaluation.submission import (
    SubmittedFunction,
    SubmittedVolumeFunction,
    load_submitted,
    named_denoiser,
    submitted_names,
)
from iscl_monai.evaluation.submission.function import probe_slice
from iscl_monai.inference import denoise_volume

Image = npt.NDArray[np.float32]


def blur(image: Image) -> Image:
    return np.asarray(ndimage.gaussian_filter(image, 1.0))


def submitted(function: Callable[[Image], Any]) -> SubmittedFunction:
    return SubmittedFunction(function, name="mine", version="", digest="", origin="mine.py:denoise")


def test_what_it_adds_is_its_result_less_its_input() -> None:
    image = probe_slice(5)
    np.testing.assert_allclose(image + submitted(blur).change_hu(image), blur(image), atol=1e-3)
    volume = np.stack([image, probe_slice(6)])
    np.testing.assert_allclose(denoise_volume(volume, submitted(blur))[1], blur(volume[1]), atol=1e-3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: image[:-1], r"returned float32 of shape \(127, 128\)"),
        (lambda image: image[None], r"of shape \(1, 128, 128\)"),
        (lambda image: image + 0j, "returned complex64"),
        (lambda image: np.where(image > 300, np.nan, image), "NaN or infinite"),
        (lambda image: (image + 1000) / 2000, "changes by"),
        (lambda image: image / 1000, "changes by"),
        (lambda image: image + 1024, "at the median"),
        (lambda image: image[::-1], "rows flipped"),
        (lambda image: image.T, "transposed"),
        (lambda image: None, "returned object"),
    ],
    ids=["cropped", "channel", "complex", "nan", "normalised", "scaled", "stored", "flipped", "transposed", "nothing"],
)
def test_what_is_no_image_in_hounsfield_units_is_refused_at_once(
    function: Callable[[Image], Any], message: str
) -> None:
    with pytest.raises(ImageRefusal, match=message):
        submitted(function)


def test_a_function_that_fails_is_named() -> None:
    def failing(image: Image) -> Image:
        raise RuntimeError("no GPU here")

    with pytest.raises(ConfigRefusal, match=r"mine \(mine.py:denoise\) failed .* RuntimeError: no GPU here"):
        submitted(failing)


def test_later_images_are_checked_too() -> None:
    """A function that is right for the made-up body only."""
    calls = itertools.count()
    mine = submitted(lambda image: image if next(calls) < 3 else image * 0 + 5000)
    with pytest.raises(ImageRefusal, match="HU from its input at the median"):
        mine.change_hu(probe_slice(0))


def test_it_is_told_when_one_slice_gives_two_results() -> None:
    """By chance, or by what it remembers of the slices before."""
    random = np.random.default_rng(0)
    assert submitted(blur).parameters["repeatable"] == "yes"
    assert not submitted(lambda image: image + random.normal(0, 1, image.shape)).repeatable
    before = [np.zeros((128, 128), np.float32)]

    def remembering(image: Image) -> Image:
        before.append(image)
        return np.asarray(image + 0.1 * before[-2])

    assert not submitted(remembering).repeatable


def test_its_input_is_a_copy_and_calls_do_not_overlap() -> None:
    inside = threading.Lock()

    def careless(image: Image) -> Image:
        assert inside.acquire(blocking=False), "two threads at once"
        image *= 0.9
        inside.release()
        return image

    volume = np.stack([probe_slice(seed) for seed in range(8)])
    kept = volume.copy()
    denoised = denoise_volume(volume, submitted(careless), workers=4)
    np.testing.assert_array_equal(volume, kept)
    np.testing.assert_allclose(denoised, 0.9 * kept, rtol=1e-5)


def test_a_volume_method_sees_neighbours_and_takes_single_slices() -> None:
    mine = SubmittedVolumeFunction(
        lambda volume: np.repeat(volume.mean(0, keepdims=True), len(volume), 0),
        **{"name": "mean", "version": "", "digest": "", "origin": "mine.py:mean"},
    )
    volume = np.stack([probe_slice(seed) for seed in range(3)])
    np.testing.assert_allclose(denoise_volume(volume, mine)[2], volume.mean(0), atol=1e-3)
    np.testing.assert_allclose(mine.change_hu(volume[0]), 0, atol=1e-3)


# --- where it comes from ----------------------------------------------------------------------------

CODE = """
import numpy as np
from beside import FACTOR

def denoise(image):
    return image * FACTOR

def along_z(volume):
    assert volume.ndim == 3
    return volume

along_z.takes = "volume"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    (tmp_path / "beside.py").write_text("FACTOR = 0.9\n")
    path = tmp_path / "my_method.py"
    path.write_text(CODE)
    return path


def test_a_function_of_a_file_and_what_lies_beside_it(file: Path) -> None:
    image = probe_slice(0)
    mine = named_denoiser(f"{file}:denoise")
    np.testing.assert_allclose(mine.change_hu(image), -0.1 * image, atol=1e-3)
    assert mine.parameters["code"] == "my_method.py:denoise"
    assert isinstance(named_denoiser(f"{file}:along_z"), SubmittedVolumeFunction)
    assert isinstance(named_denoiser("tv"), ClassicalFilter)


def test_its_digest_is_that_of_the_file_and_of_the_files_it_names(file: Path) -> None:
    def digest() -> str:
        return load_submitted("mine", f"{file}:denoise").identity.weights_digest

    first = digest()
    assert digest() == first
    file.write_text(CODE + "denoise.files = [__file__[:-3] + '.pt']\n")
    with pytest.raises(ConfigRefusal, match=r"my_method\.pt, which does not exist"):
        digest()
    (file.parent / "my_method.pt").write_bytes(b"1")
    second = digest()
    (file.parent / "my_method.pt").write_bytes(b"2")
    assert len({first, second, digest()}) == 3


@pytest.mark.parametrize(
    ("change", "source", "message"),
    [
        ("", "{file}:denoize", "has no function 'denoize'.*did you mean 'denoise'"),
        ("", "{file}x.py:denoise", "no such file"),
        ("import no_such_package", "{file}:denoise", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("denoise.takes = 'pictures'", "{file}:denoise", "takes = 'pictures'"),
    ],
)
def test_what_cannot_be_loaded_is_refused(file: Path, change: str, source: str, message: str) -> None:
    file.write_text(f"{CODE}\n{change}\n")
    with pytest.raises(ConfigRefusal, match=message):
        named_denoiser(source.format(file=file))


def test_methods_of_installed_packages_are_known_by_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip leaves them: metadata beside the module, on the path."""
    information = file.parent / "theirs-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.5\n")
    points = ["theirs = my_method:denoise", "broken = my_method:nothing", "text = my_method:__name__"]
    (information / "entry_points.txt").write_text("\n".join(["[iscl_monai.denoisers]", *points]) + "\n")
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "my_method", raising=False)
    assert submitted_names() == ["broken", "text", "theirs"]
    assert [method.kind for method in chosen(["iscl", "theirs"])] == ["input", "unpaired", "a function"]
    theirs = named_denoiser("theirs")
    assert theirs.identity.version == "1.5"
    assert theirs.parameters["code"] == "entry point my_method:denoise"
    with pytest.raises(ConfigRefusal, match=r"broken = my_method:nothing .* cannot be loaded"):
        named_denoiser("broken")
    with pytest.raises(ConfigRefusal, match=r"text = my_method:__name__ .* is a str"):
        named_denoiser("text")
    with pytest.raises(ConfigRefusal, match="did you mean 'theirs'"):
        named_denoiser("their")
    (information / "entry_points.txt").write_text("[iscl_monai.denoisers]\niscl = my_method:denoise\n")
    with pytest.raises(ConfigRefusal, match=r"entry point 'iscl' of iscl_monai\.denoisers"):
        chosen(None)
