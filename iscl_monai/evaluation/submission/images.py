"""Denoised scans as they are read: at their noisy scan's place, in HU, the right way round, of the right patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.data import ScanPair
from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.plausible import LEAST_RMSE_HU, check_same_image, rmse_hu, thinned
from iscl_monai.evaluation.scans import Scan, check_same_place, read_scan
from iscl_monai.evaluation.submission.matching import DenoisedFolder, DenoisedScan
from iscl_monai.inference.slice_denoiser import ModelIdentity

Volume = npt.NDArray[np.float32]
NOT_CHECKED = "nothing says which patients this method has seen: nothing could be checked"


def read_denoised(one: DenoisedScan, noisy: Scan, pair: ScanPair, *, trust_hu: bool = False) -> Volume:
    """The voxels of a denoised scan, checked against the noisy one.

    Args:
        one: of :class:`DenoisedFolder`.
        noisy: what was denoised.
        pair: of both.
        trust_hu: see :func:`iscl_monai.evaluation.scans.read_scan`.

    Returns:
        float32 HU (slice, row, column), of the shape of the noisy scan.

    Raises:
        Refusal: what cannot be read, lies elsewhere, is no HU, flipped or in another order, or not of this scan.
    """
    denoised = read_scan(one.path, series_uid=one.series_uid or None, z_range_mm=pair.z_range_mm, trust_hu=trust_hu)
    check_same_place(denoised, noisy)
    if not np.isfinite(denoised.hu).all():
        raise ImageRefusal(f"{one.path}: NaN or infinite values", allowed="finite HU", cure="write it again")
    check_same_image(denoised.hu, noisy.hu, names=(one.path, pair.noisy))
    return denoised.hu


def check_not_reference(denoised_hu: Volume, reference_hu: Volume, pair: ScanPair) -> None:
    """Refuse the reference in place of a denoised scan.

    Raises:
        ImageRefusal: if all voxels are the same.
    """
    if np.array_equal(denoised_hu, reference_hu):
        raise ImageRefusal(
            f"the denoised scan of {pair.patient} is its reference {pair.clean}, voxel by voxel",
            allowed="what a method made of the noisy scan",
            cure="give the denoised scan",
        )


class OwnScans:
    """Sees to it that no denoised scans are swapped: each must be nearer to its own noisy scan than to any other."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []

    def check(self, patient: str, noisy_hu: Volume, denoised_hu: Volume) -> None:
        """Compare with all before.

        Raises:
            ImageRefusal: naming two patients of whom one has the other's image.
        """
        noisy, denoised = thinned(noisy_hu), thinned(denoised_hu)
        for name, other_noisy, other_denoised in self._seen:
            if other_noisy.shape == noisy.shape:
                self._check(patient, denoised, noisy, name, other_noisy)
                self._check(name, other_denoised, other_noisy, patient, noisy)
        self._seen.append((patient, noisy, denoised))

    @staticmethod
    def _check(
        patient: str,
        denoised: npt.NDArray[np.float64],
        own: npt.NDArray[np.float64],
        other_patient: str,
        other: npt.NDArray[np.float64],
    ) -> None:
        away_hu, away_from_other_hu = rmse_hu(denoised, own), rmse_hu(denoised, other)
        if away_hu > LEAST_RMSE_HU and away_from_other_hu < away_hu / 2:
            raise ImageRefusal(
                f"the denoised scan of {patient} is {away_from_other_hu:.1f} HU from the noisy scan of "
                f"{other_patient}, and {away_hu:.1f} HU from its own",
                allowed="of each patient his own",
                cure="check which denoised scan is whose: two are swapped, or one is there twice",
            )


class ReadScans:
    """Denoised scans, read one after the other as their pairs come.

    Args:
        folder: the denoised scans of all pairs.
        trust_hu: see :func:`iscl_monai.evaluation.scans.read_scan`.
    """

    def __init__(self, folder: DenoisedFolder, *, trust_hu: bool = False) -> None:
        self.folder = folder
        self.trust_hu = trust_hu
        self._left = iter(folder.scans)
        self._own = OwnScans()
        self._digest = hashlib.sha256()

    def __call__(self, pair: ScanPair, noisy: Scan) -> Volume:
        """The denoised scan of the next pair.

        Raises:
            Refusal: see :func:`read_denoised`.
        """
        denoised_hu = read_denoised(next(self._left), noisy, pair, trust_hu=self.trust_hu)
        self._own.check(pair.patient, noisy.hu, denoised_hu)
        self._digest.update(denoised_hu.tobytes())
        return denoised_hu

    @property
    def digest(self) -> str:
        """SHA-256 of all voxels that were read so far, in the order of the pairs."""
        return self._digest.hexdigest()

    def described(self) -> dict[str, str]:
        """For reports."""
        return {"denoised scans": self.folder.folder.name, "voxels": f"sha256 {self.digest}"}


class SubmittedImages:
    """Denoised scans with the face of a denoiser: it knows the slices of the noisy scans, and no others.

    Args:
        folder: the denoised scans of these pairs.
        pairs: whose noisy scans are read again to be compared.
        name: as printed.

    Raises:
        Refusal: see :func:`read_denoised`; or one noisy slice with two results.
    """

    def __init__(self, folder: DenoisedFolder, pairs: Sequence[ScanPair], *, name: str) -> None:
        self.folder = folder.folder
        self.device = torch.device("cpu")
        self._changes_hu: dict[bytes, Volume] = {}
        read = ReadScans(folder)
        for pair in pairs:
            noisy, clean = _noisy_and_clean(pair)
            denoised_hu = read(pair, noisy)
            check_not_reference(denoised_hu, clean.hu, pair)
            for noisy_slice, change_hu in zip(noisy.hu, denoised_hu - noisy.hu, strict=True):
                self._keep(noisy_slice, change_hu, pair)
        self.identity = ModelIdentity(name, "", read.digest)

    def _keep(self, noisy_slice: Volume, change_hu: Volume, pair: ScanPair) -> None:
        known = self._changes_hu.setdefault(_key(noisy_slice), change_hu)
        if not np.array_equal(known, change_hu):
            raise ImageRefusal(
                f"one noisy slice of {pair.patient} stands there twice, with two results",
                allowed="each noisy slice once, or with one result",
                cure="give noisy scans that share no slice",
            )

    @property
    def parameters(self) -> dict[str, str]:
        """What it is known by: the voxels, not where they lie."""
        return {"method": self.identity.name, "images": self.folder.name, "sha256": self.identity.weights_digest}

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Volume:
        """What was added to a slice of the noisy scans, float32 HU (row, column).

        Raises:
            ImageRefusal: another slice: a folder cannot denoise new images.
        """
        known = self._changes_hu.get(_key(np.asarray(slice_hu, np.float32)))
        if known is None:
            raise ImageRefusal(
                f"a slice that is in no noisy scan of {self.folder}",
                allowed="slices of the scored section: a folder cannot denoise new images",
                cure="give the method itself, as --add NAME=file.py:function",
            )
        return known


def _noisy_and_clean(pair: ScanPair) -> tuple[Scan, Scan]:
    noisy = read_scan(pair.noisy, series_uid=pair.noisy_series_uid, z_range_mm=pair.z_range_mm)
    return noisy, read_scan(pair.clean, series_uid=pair.clean_series_uid, z_range_mm=pair.z_range_mm)


def _key(slice_hu: Volume) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(slice_hu).tobytes()).digest()
