"""Thin adaptors that hand CT scans to MONAI: one function, one ``ImageReader``, one transform.

Importing this needs MONAI, and neither pydicom, nibabel nor SimpleITK: each is imported by the first file
of its kind.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from iscl_monai.errors import ImageRefusal

if TYPE_CHECKING:
    from iscl_monai.dicom.series import Geometry

PathLike: TypeAlias = str | os.PathLike[str]


def load_ct(
    path: PathLike,
    *,
    series_uid: str | None = None,
    geometry: Geometry = "slices",
    z_range_mm: tuple[float, float] | None = None,
    trust_hu: bool = False,
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Read a CT scan as Hounsfield units, whatever kind of file holds it, or refuse it.

    Args:
        path: a DICOM folder or file (:func:`iscl_monai.dicom.series.read_series`), or a ``.nii``,
            ``.nii.gz``, ``.mha``, ``.mhd`` or ``.nrrd`` volume (:func:`iscl_monai.dicom.images.read_image`).
        series_uid: DICOM only: which series of the folder.
        geometry: DICOM only: ``"volume"`` refuses uneven spacing, ``"slices"`` accepts it.
        z_range_mm: keep the slices within, both limits included.
        trust_hu: volume files only: see :func:`iscl_monai.dicom.images.read_image`.

    Returns:
        float32 HU, shape (row, column, slice); NIfTI keeps its file order instead. And the metadata:
        ``affine`` (4x4, RAS, for exactly this index order), ``filename_or_obj``, ``series_uid``,
        ``positions_mm`` (one per slice), ``spacing`` (mm per axis), ``slice_thickness_mm`` (NaN when not known),
        ``vendor``, ``kernel`` and ``body_part`` (``""`` when not known) and ``evenly_spaced``. When the
        latter is False (DICOM, ``geometry="slices"``) the affine's third column is only the mean step.

    Raises:
        DicomRefusal: DICOM that would have to be guessed.
        ImageRefusal: any other file that is not a CT volume.
        ConfigRefusal: nothing within ``z_range_mm``.
    """
    from iscl_monai.dicom import images

    path = Path(path)
    if images.is_image_file(path):
        if series_uid is not None:
            raise ImageRefusal(
                f"{path}: series_uid {series_uid}", allowed="series_uid for DICOM only", cure="leave it out"
            )
        volume = images.read_image(path, z_range_mm, trust_hu=trust_hu)
        return volume.hu, _meta(path, volume.affine_ras, volume.positions_mm)
    from iscl_monai.dicom.series import read_series

    series = read_series(path, series_uid=series_uid, geometry=geometry, z_range_mm=z_range_mm)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    meta = _meta(path, lps_to_ras @ series.affine_lps, series.positions_mm)
    meta["series_uid"] = series.series_uid
    meta["slice_thickness_mm"] = math.nan if series.slice_thickness_mm is None else series.slice_thickness_mm
    first = series.headers[0]
    meta |= {"vendor": first.vendor, "kernel": first.kernel[0] if first.kernel else "", "body_part": first.body_part}
    meta["evenly_spaced"] = series.spacing_between_slices_mm is not None or len(series.files) == 1
    # A view: each slice stays contiguous in memory, and nothing is copied.
    return series.hu.transpose(1, 2, 0), meta


def _meta(path: Path, affine: npt.NDArray[np.float64], positions_mm: tuple[float, ...]) -> dict[str, Any]:
    return {
        "filename_or_obj": str(path),
        "series_uid": "",
        "affine": affine,
        "positions_mm": positions_mm,
        "spacing": tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        "slice_thickness_mm": math.nan,
        "vendor": "",
        "kernel": "",
        "body_part": "",
        "evenly_spaced": True,
    }


class CTReader(ImageReader):
    """:func:`load_ct` as a MONAI reader, for ``LoadImage(reader=CTReader())``.

    ``LoadImage`` swallows whatever :meth:`read` raises and silently tries its own readers next, which would
    read just the series that we refuse. So :meth:`read` only notes the path, and :meth:`get_data`, which is
    not guarded, reads it: a refusal comes through as it is.

    Args:
        series_uid: see :func:`load_ct`.
        geometry: see :func:`load_ct`.
        z_range_mm: see :func:`load_ct`.
        trust_hu: see :func:`load_ct`.
    """

    def __init__(
        self,
        *,
        series_uid: str | None = None,
        geometry: Geometry = "slices",
        z_range_mm: tuple[float, float] | None = None,
        trust_hu: bool = False,
    ) -> None:
        """See the class."""
        super().__init__()
        self.series_uid = series_uid
        self.geometry = geometry
        self.z_range_mm = z_range_mm
        self.trust_hu = trust_hu

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Always True: whether it is CT is told by reading it."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Note what to read; never raises, see the class.

        Args:
            data: the path, or a sequence of one path.
            kwargs: none is known; ignored.

        Returns:
            The argument, for :meth:`get_data`.
        """
        return data

    def get_data(self, img: Any) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Read the scan: the array without channel, and metadata that MONAI can collate.

        Args:
            img: the result of :meth:`read`.

        Returns:
            float32 HU (row, column, slice) and its metadata.

        Raises:
            Refusal: as :func:`load_ct`; ImageRefusal also for several paths.
        """
        paths = [img] if isinstance(img, (str, os.PathLike)) else list(img)
        if len(paths) != 1:
            raise ImageRefusal(
                f"{len(paths)} paths: {paths}",
                allowed="one scan at a time",
                cure="give the folder of the series instead of its files",
            )
        image, meta = load_ct(
            paths[0],
            series_uid=self.series_uid,
            geometry=self.geometry,
            z_range_mm=self.z_range_mm,
            trust_hu=self.trust_hu,
        )
        return image, monai_meta(meta, image.shape)


class LoadCTd(MapTransform):
    """Load CT scans named in a dictionary as channel-first ``MetaTensor`` in Hounsfield units.

    ``{"image": "scan/", "series_uid": "1.2.3", "z_range_mm": [-600, -400]}``: the last two are optional and
    hold for every key. Called by itself a refusal comes through as it is, in one line; ``Compose`` and
    ``Dataset`` of MONAI wrap any error into a ``RuntimeError`` whose ``__cause__`` is the refusal.

    Args:
        keys: of the paths.
        geometry: see :func:`load_ct`.
        series_uid_key: where the item may name its series; ``<key>_<series_uid_key>`` goes before it.
        z_range_key: where the item may name its range of slices.
        trust_hu: see :func:`load_ct`.
        allow_missing_keys: ignore an absent key.

    Returns (of a call):
        The dictionary with each path replaced by float32 HU of shape (1, row, column, slice), with
        ``affine`` (RAS) and the metadata of :func:`load_ct`; ``positions_mm`` there is JSON text.

    Raises (a call):
        Refusal: as :func:`load_ct`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        geometry: Geometry = "slices",
        series_uid_key: str = "series_uid",
        z_range_key: str = "z_range_mm",
        trust_hu: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        """See the class."""
        super().__init__(keys, allow_missing_keys)
        self.geometry = geometry
        self.series_uid_key = series_uid_key
        self.z_range_key = z_range_key
        self.trust_hu = trust_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key; see the class."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            image, meta = load_ct(
                loaded[key],
                series_uid=data.get(f"{key}_{self.series_uid_key}", data.get(self.series_uid_key)),
                geometry=self.geometry,
                z_range_mm=data.get(self.z_range_key),
                trust_hu=self.trust_hu,
            )
            tensor = torch.from_numpy(np.asarray(image)[None])
            meta = monai_meta(meta, image.shape) | {"original_channel_dim": 0}
            loaded[key] = MetaTensor(tensor, meta=meta)
        return loaded


def monai_meta(meta: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The metadata of :func:`load_ct` with MONAI's own entries, in a form that batches.

    MONAI's collate stacks metadata and fails on sequences of differing length, and scans differ in the
    number of slices. ``positions_mm`` therefore becomes JSON text; ``json.loads`` gives the list back.

    Args:
        meta: from :func:`load_ct`.
        shape: of the image without channel.

    Returns:
        A new dictionary.
    """
    return dict(meta) | {
        "positions_mm": json.dumps(list(meta["positions_mm"])),
        "original_affine": np.array(meta["affine"]),
        "spatial_shape": np.array(shape),
        "original_channel_dim": float("nan"),  # MONAI's word for: no channel
        "space": "RAS",
    }


def estimate_shape(
    path: PathLike, *, series_uid: str | None = None, z_range_mm: tuple[float, float] | None = None
) -> tuple[int, int, int]:
    """The (rows, columns, slices) that :func:`load_ct` would return, from headers alone.

    Args:
        path: see :func:`load_ct`.
        series_uid: see :func:`load_ct`.
        z_range_mm: see :func:`load_ct`.

    Raises:
        Refusal: what headers alone give reason to refuse.
    """
    from iscl_monai.dicom import images

    if images.is_image_file(Path(path)):
        return images.estimate_shape(Path(path), z_range_mm)
    from iscl_monai.dicom.series import estimate_voxels

    slices, rows, columns = estimate_voxels(Path(path), series_uid=series_uid, z_range_mm=z_range_mm)
    return rows, columns, slices
