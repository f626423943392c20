"""What the pixels of a few slices tell: noise, its spectrum, whether they decode, and a picture."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.archive.verdict import in_words
from iscl_monai.dicom import rules
from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.dicom.pixels import read_slice, without_warnings
from iscl_monai.dicom.values import Verdict, judge_values
from iscl_monai.errors import DicomRefusal, Refusal

AIR_HU = -1000.0
MOST_SLICES = 5
THUMBNAIL_PX = 96
WINDOW_HU = (-160.0, 240.0)
NO_TISSUE_HU = -300.0
NO_TISSUE = "no tissue: nothing above -300 HU in the slices looked at"
CRASHED = "decoding it ended the process"

Slice = tuple[SliceHeader, npt.NDArray[np.float32], "npt.NDArray[np.bool_] | None"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found.

    Attributes:
        noise_hu: None when no slice holds enough soft tissue.
        noise_peak_per_mm: None when no slice holds enough flat soft tissue.
        problem: why the pixels cannot be used; ``""`` when they can.
        proven: the values show that they are Hounsfield units.
        thumbnail: a small PNG in base 64, ``""`` when there is none.
    """

    noise_hu: float | None = None
    noise_peak_per_mm: float | None = None
    problem: str = ""
    proven: bool = False
    thumbnail: str = ""

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self))


def chosen_slices(count: int) -> list[tuple[int, int]]:
    """At most five places spread over a series, without its ends, each with its neighbour; the middle in the middle.

    Args:
        count: how many slices there are; a single one is its own neighbour.
    """
    chosen: Sequence[int] = range(count)
    if count > MOST_SLICES:
        chosen = [round((count - 1) * part / (MOST_SLICES + 1)) for part in range(1, MOST_SLICES + 1)]
    return [(index, index + 1 if index + 1 < count else max(0, index - 1)) for index in chosen]


def measure(pairs: Sequence[tuple[Path, Path]], *, thumbnail: bool = True) -> Measured:
    """Decode a few slices of one series and measure them; nothing is raised for bad files.

    Args:
        pairs: slices and their neighbours, in their order.
        thumbnail: whether a picture of the middle one may be made.
    """
    from data_prep.archive.spectrum import noise_spectrum, soft_tissue_patches
    from iscl_monai.quality.noise import noise_sigma_hu  # brings torch along

    try:
        with without_warnings():
            slices = {path: _read(path) for path in dict.fromkeys(path for pair in pairs for path in pair)}
    except DicomRefusal as refusal:
        return Measured(problem=_words(refusal))
    except Exception as error:  # gone, or changed into something else, since its header was read
        return Measured(problem=f"cannot be read any more ({type(error).__name__})")
    images = [slices[path][1] for path, _ in pairs]
    judgement = judge_values(
        [(image, padded) for _, image, padded in slices.values()], spacing_mm=slices[pairs[0][0]][0].pixel_spacing
    )
    if judgement.verdict is Verdict.CONTRADICTED:
        return Measured(problem=f"values that are no HU: {judgement.finding}")
    if max(image.max() for image in images) < NO_TISSUE_HU:
        return Measured(problem=NO_TISSUE)
    try:
        noises = [noise_sigma_hu(image) for image in images]
    except Refusal:
        return Measured(problem="pixels that are no finite HU")
    known = [noise for noise in noises if not math.isnan(noise)]
    spacing = slices[pairs[0][0]][0].pixel_spacing
    patches = [soft_tissue_patches(slices[one][1], _neighbour(slices, one, other)) for one, other in pairs]
    usable = spacing is not None and min(spacing) > 0
    spectrum = noise_spectrum(np.concatenate(patches), (spacing[0], spacing[1])) if spacing and usable else None
    return Measured(
        noise_hu=round(float(np.median(known)), 2) if known else None,
        noise_peak_per_mm=round(spectrum.peak_per_mm(), 3) if spectrum else None,
        proven=judgement.verdict is Verdict.PROVEN,
        thumbnail=_thumbnail(images[len(images) // 2]) if thumbnail else "",
    )


def _neighbour(slices: Mapping[Path, Slice], one: Path, other: Path) -> npt.NDArray[np.float32] | None:
    same_shape = slices[one][1].shape == slices[other][1].shape
    return slices[other][1] if other != one and same_shape else None


def _read(path: Path) -> Slice:
    header = read_header(path)
    rules.check_image(header)
    rules.check_rescale(header)
    image = np.empty((header.rows or 0, header.columns or 0), np.float32)
    padded = read_slice(header, image)
    if padded is not None:
        image[padded] = AIR_HU  # its value may be anything, and is no tissue
    return header, image, padded


def _words(refusal: DicomRefusal) -> str:
    syntax = re.match(r"not decodable \(([\w .,()-]{1,90}?):", str(refusal.found))
    return f"pixels cannot be decoded ({syntax[1]})" if syntax else in_words(refusal)


def _thumbnail(image_hu: npt.NDArray[np.float32]) -> str:
    from PIL import Image

    lowest, highest = WINDOW_HU
    grey = ((image_hu - lowest) / (highest - lowest)).clip(0, 1) * 255
    picture = Image.fromarray(grey.round().astype(np.uint8))
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    held = io.BytesIO()
    picture.save(held, format="PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode("ascii")
