"""The transform chains of training and of its validation: from files to HU, patches and the network's range.

Deployed denoising (:mod:`iscl_monai.inference`) goes slice by slice and uses no chain; the window is the same
:class:`iscl_monai.hu.HUWindow`.

Images are channel-first tensors (1, row, column, slice) from files and (1, row, column) as training patches.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, RandFlipd, RandRotate90d
from monai.transforms.transform import RandomizableTransform, Transform
from monai.utils.misc import ensure_tuple
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from iscl_monai.dicom.monai_io import LoadCTd
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import body_mask

Item = Mapping[Hashable, Any]
BODY_GRID_PX = 8
TISSUE_HU = -200.0
"""Lesions are put into what is denser than this."""
LEAST_COARSER = 1.3
"""Averaging down by less blurs more than it coarsens."""
STRUCTURES: dict[str, Any] = {"diameters_px": (2.0, 40.0), "contrasts_hu": (80.0, 900.0), "texture_share": 0.0}
"""As strong as bone, contrast medium and air: edges that must not be taken for noise."""


class HUWindowd(MapTransform):
    """HU to the network's range; the HU themselves stay beside it as ``<key>_hu``.

    Args:
        keys: images in HU, any shape and real dtype.
        hu_window: what maps to [-1, 1].
    """

    def __init__(self, keys: KeysCollection, hu_window: HUWindow) -> None:
        super().__init__(keys)
        self.hu_window = hu_window

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the window's view of every key, float32 in [-1, 1], and keep the HU, float32."""
        windowed = dict(data)
        for key in self.key_iterator(windowed):
            image_hu = windowed[key].float()
            windowed[f"{key}_hu"] = image_hu
            windowed[key] = self.hu_window.to_network(image_hu)
        return windowed


class CompactHUd(MapTransform):
    """HU as int16 where that loses nothing, as for almost all scanners: half the memory of float32."""

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Replace float images by int16 ones if every value is a whole number that fits."""
        compact = dict(data)
        for key in self.key_iterator(compact):
            image = compact[key]
            stored = image.round().clamp(-32768, 32767).to(torch.int16)
            if torch.equal(stored.to(image.dtype), image):
                compact[key] = stored
        return compact


class BodyFractiond(MapTransform):
    """Beside each image a coarse map of how much body there is, as ``<key>_body``.

    One value in [0, 1] per square of 8x8 pixels and slice, (rows / 8, columns / 8, slices), float32.
    """

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the map of every key; images are HU (1, row, column, slice)."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            mapped[f"{key}_body"] = _coarse(body_mask(_slices_first(mapped[key])))
        return mapped


def _slices_first(image: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return _plain(image)[0].permute(2, 0, 1).float().numpy()


def _plain(image: Tensor) -> Tensor:
    """Without MONAI's metadata, which every operation would copy."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _coarse(body: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    slices, rows, columns = (size // grid for size, grid in zip(body.shape, (1, *2 * [BODY_GRID_PX]), strict=True))
    squares = body[:, : rows * BODY_GRID_PX, : columns * BODY_GRID_PX]
    squares = squares.reshape(slices, rows, BODY_GRID_PX, columns, BODY_GRID_PX)
    return np.asarray(squares.mean(axis=(2, 4), dtype=np.float32).transpose(1, 2, 0))


class RandBodyPatchd(RandomizableTransform, MapTransform):
    """One square patch of one slice, from the body rather than from the air around it.

    A place is drawn evenly over all slices and positions and taken with a chance that grows with its share of
    body, so that skin and air keep their place but do not fill the batches.

    Args:
        keys: images (1, row, column, slice) with ``<key>_body`` beside them.
        patch_size: side in pixels.
        least_body: places with a smaller share of body are drawn again.
        tries: after so many the best place seen is taken.
        coarsest: every second patch is cut up to so many times as large, and averaged down to its size: pixels of
            other scanners and bodies, and images that are quieter and sharper than the scans are. 1: none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        patch_size: int = 64,
        least_body: float = 0.5,
        tries: int = 40,
        coarsest: float = 1.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self)
        if patch_size < 16:
            raise ConfigRefusal(f"patch_size={patch_size}", allowed="16 or more", cure="the authors use 64")
        self.patch_size = patch_size
        self.least_body = least_body
        self.tries = tries
        self.coarsest = coarsest

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Cut the patch out of every key; (1, patch_size, patch_size), HU."""
        cut = dict(data)
        for key in self.key_iterator(cut):
            image = _plain(cut[key])
            size = self._size(min(image.shape[1:3]))
            row, column, slice_ = self._place(image.shape, cut.pop(f"{key}_body"), cut.get("image_path", key), size)
            patch = image[:, row : row + size, column : column + size, slice_].float()
            cut[key] = patch if size == self.patch_size else _averaged(patch, self.patch_size)
        return cut

    def _size(self, largest: int) -> int:
        """Side of the square to cut."""
        if self.coarsest <= 1 or self.R.random_sample() < 0.5:
            return self.patch_size
        size = int(self.patch_size * self.R.uniform(min(LEAST_COARSER, self.coarsest), self.coarsest))
        return max(self.patch_size, min(size, largest))

    def _place(self, shape: Sequence[int], body: Any, name: Any, size: int) -> tuple[int, int, int]:
        rows, columns, slices = shape[1:]
        if min(rows, columns) < self.patch_size:
            raise ImageRefusal(
                f"{name}: slices of {rows}x{columns} pixels",
                allowed=f"at least the patch size, {self.patch_size}",
                cure="train with a smaller patch_size or leave this scan out",
            )
        best, best_share = (0, 0, 0), -1.0
        for _ in range(self.tries):
            row = int(self.R.randint(rows - size + 1))
            column = int(self.R.randint(columns - size + 1))
            slice_ = int(self.R.randint(slices))
            share = self._share(body, row, column, slice_, size)
            if share > best_share:
                best, best_share = (row, column, slice_), share
            if share >= max(self.least_body, self.R.random_sample()):
                break
        return best

    def _share(self, body: Any, row: int, column: int, slice_: int, size: int) -> float:
        rows = slice(row // BODY_GRID_PX, -(-(row + size) // BODY_GRID_PX))
        columns = slice(column // BODY_GRID_PX, -(-(column + size) // BODY_GRID_PX))
        return float(body[rows, columns, slice_].mean())


def _averaged(patch: Tensor, size: int) -> Tensor:
    """(1, rows, columns) down to (1, size, size), each pixel the mean of what it covers."""
    return interpolate(patch[None], size=(size, size), mode="bilinear", antialias=True)[0]


class RandLesionsd(RandomizableTransform, MapTransform):
    """Faint lesions and patches of texture put into training patches, so that a denoiser learns to leave them.

    Discs and ellipses with soft edges, bright or dark, and fields of fine texture, in tissue alone; the same in every
    key. Small and faint ones are drawn as often as large and strong ones (evenly in the logarithm).

    Args:
        keys: patches in HU (1, row, column).
        most: largest number of them in a patch; 0 to so many, evenly.
        diameters_px: least and largest.
        contrasts_hu: least and largest, either sign.
        texture_share: share of them that are texture instead, whose standard deviation is a quarter of the contrast.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        most: int = 6,
        diameters_px: tuple[float, float] = (1.2, 10.0),
        contrasts_hu: tuple[float, float] = (6.0, 80.0),
        texture_share: float = 0.2,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self)
        self.most = most
        self.diameters_px = diameters_px
        self.contrasts_hu = contrasts_hu
        self.texture_share = texture_share

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the lesions of this draw to every key."""
        changed = dict(data)
        keys = list(self.key_iterator(changed))
        size = int(changed[keys[0]].shape[-1])
        added = np.zeros((size, size))
        for _ in range(int(self.R.randint(self.most + 1))):
            self._add_one(added)
        lesions = torch.from_numpy(np.asarray(added, np.float32))[None]
        for key in keys:
            tissue = avg_pool2d(changed[key].mean(0, keepdim=True), 3, 1, 1, count_include_pad=False) > TISSUE_HU
            changed[key] = changed[key] + lesions * tissue
        return changed

    def _add_one(self, patch: NDArray[np.float64]) -> None:
        diameter = self._between(*self.diameters_px)
        contrast = self._between(*self.contrasts_hu) * self.R.choice((-1, 1))
        row, column = self.R.uniform(0, len(patch), 2)
        stretch, turn = self.R.uniform(0.7, 1.4), self.R.uniform(0, np.pi)
        softness = self.R.uniform(0.3, 0.8)  # pixels: about what scanners make of a sharp edge
        texture = self.R.random_sample() < self.texture_share
        radius = 3 * diameter if texture else diameter / 2
        reach = 1.43 * radius + 8 * softness  # 1 / 0.7, and where nothing is left of it
        rows, columns = (slice(max(0, int(at - reach)), int(at + reach) + 2) for at in (row, column))
        window = patch[rows, columns]
        down, right = np.ogrid[: window.shape[0], : window.shape[1]]
        down, right = down + rows.start - row, right + columns.start - column
        along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
        disc = 1 / (1 + np.exp(np.clip((np.hypot(along * stretch, across / stretch) - radius) / softness, -30, 30)))
        if texture:
            field = ndimage.gaussian_filter(self.R.standard_normal(window.shape), diameter / 4)
            disc *= np.sign(contrast) / 4 * field / max(float(field.std()), 1e-9)
        window += contrast * disc

    def _between(self, least: float, largest: float) -> float:
        return float(np.exp(self.R.uniform(np.log(least), np.log(largest))))


def loading(keys: KeysCollection, *, geometry: str = "slices", trust_hu: bool = False) -> Compose:
    """Files to cached HU volumes with their body maps: everything of training that is not random.

    Args:
        keys: of the paths.
        geometry: see :class:`~iscl_monai.dicom.monai_io.LoadCTd`.
        trust_hu: likewise.
    """
    keys = ensure_tuple(keys)
    load = LoadCTd(keys, geometry="volume" if geometry == "volume" else "slices", trust_hu=trust_hu)
    return Compose([load, CompactHUd(keys), BodyFractiond(keys)])


def augmentation(
    keys: KeysCollection,
    *,
    patch_size: int = 64,
    least_body: float = 0.5,
    coarsest: float = 1.0,
    lesions: int = 0,
    structures: int = 0,
) -> Compose:
    """A random body patch in one of the eight orientations of the square.

    Args:
        keys: images (1, row, column, slice) with ``<key>_body`` beside them.
        patch_size: side in pixels.
        least_body: see :class:`RandBodyPatchd`.
        coarsest: likewise.
        lesions: at most so many are put into a patch, see :class:`RandLesionsd`.
        structures: at most so many with sharp edges and strong contrasts are put into a patch.
    """
    steps: list[Transform] = [
        RandBodyPatchd(keys, patch_size=patch_size, least_body=least_body, coarsest=coarsest),
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandRotate90d(keys, prob=0.75, max_k=3, spatial_axes=(0, 1)),
    ]
    if structures:
        steps.append(RandLesionsd(keys, most=structures, **STRUCTURES))
    if lesions:
        steps.append(RandLesionsd(keys, most=lesions))
    return Compose(steps)


def preprocessing(
    keys: KeysCollection, hu_window: HUWindow, *, geometry: str = "slices", trust_hu: bool = False
) -> Compose:
    """Files to network range, HU kept beside it: the chain of validation and of the bundle's ``evaluate.json``.

    Args:
        keys: of the paths.
        hu_window: what maps to [-1, 1].
        geometry: see :class:`~iscl_monai.dicom.monai_io.LoadCTd`.
        trust_hu: likewise.
    """
    load = LoadCTd(keys, geometry="volume" if geometry == "volume" else "slices", trust_hu=trust_hu)
    return Compose([load, HUWindowd(keys, hu_window)])
