"""The entries of a datalist: a scan of a pool, and a pair of a noisy scan with its reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANGE = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PoolScan:
    """A scan of one of the two unpaired pools.

    Args:
        image: DICOM folder or file, or NIfTI, HU; absolute once loaded.
        patient: who it is; the same string for the same person everywhere in the datalist.
        dose: share of a full dose; 1 for the clean pool. For the balance, not for training.
        kernel: reconstruction kernel. For the balance, not for training.
        reconstruction: iterative reconstruction that the headers name; what the weights say they have seen.
        z_range_mm: only slices at these positions along the slice normal.
        series_uid: which DICOM series, when the folder holds several.
        reference: the clean image of this very scan, when there is one (the supervised twin trains on it).
        reference_series_uid: which DICOM series, when the folder of ``reference`` holds several.
        sections: of micrographs: only those with these numbers.
        grey_range: of micrographs: stored numbers of black and white, where 8 bits do not say so.
    """

    image: Path
    patient: str
    dose: float | None = None
    kernel: str | None = None
    reconstruction: str | None = None
    z_range_mm: RANGE | None = None
    series_uid: str | None = None
    reference: Path | None = None
    reference_series_uid: str | None = None
    sections: tuple[int, ...] | None = None
    grey_range: RANGE | None = None

    def item(self) -> dict[str, Any]:
        """The scan as the transforms want it."""
        return _present(
            image=str(self.image),
            image_path=str(self.image),
            z_range_mm=self.z_range_mm,
            series_uid=self.series_uid,
            sections=self.sections,
            grey_range=self.grey_range,
        )


@dataclass(frozen=True, kw_only=True)
class ReferenceScan(PoolScan):
    """The clean image of a noisy scan, as one to be read.

    Args:
        noisy: the scan that it belongs to, whose scale counts where a kind of images has no units.
        noisy_series_uid: which DICOM series, when the folder of ``noisy`` holds several.
    """

    noisy: Path
    noisy_series_uid: str | None = None

    def item(self) -> dict[str, Any]:
        """The scan as the transforms want it."""
        return {
            **super().item(),
            **_present(scaled_like=str(self.noisy), scaled_like_series_uid=self.noisy_series_uid),
        }


@dataclass(frozen=True, kw_only=True)
class ScanPair:
    """A noisy scan and its clean reference, voxel by voxel the same anatomy.

    Args:
        noisy: as :class:`PoolScan` ``image``.
        clean: likewise.
        patient: who it is.
        z_range_mm: only slices at these positions, of both.
        noisy_series_uid: which DICOM series, when the folder of ``noisy`` holds several.
        clean_series_uid: likewise for ``clean``.
        dose: of ``noisy`` over that of ``clean``, where ``noisy`` was made from ``clean`` by adding noise: what is
            known of the reference's own noise, and so of the ceiling of its PSNR, follows from it.
        truth: the same anatomy without any noise, when it is known; ``noisy`` and ``clean`` then hold noise that has
            nothing to do with each other.
        truth_protocol: what errors against the truth are named by, of
            :data:`iscl_monai.quality.protocol.TRUTH_PROTOCOLS`; needed with ``truth``.
        truth_series_uid: which DICOM series, when the folder of ``truth`` holds several.
        sections: as of :class:`PoolScan`, of both.
        grey_range: likewise.
    """

    noisy: Path
    clean: Path
    patient: str
    z_range_mm: RANGE | None = None
    noisy_series_uid: str | None = None
    clean_series_uid: str | None = None
    dose: float | None = None
    truth: Path | None = None
    truth_protocol: str | None = None
    truth_series_uid: str | None = None
    sections: tuple[int, ...] | None = None
    grey_range: RANGE | None = None

    def item(self) -> dict[str, Any]:
        """The pair as the transforms want it."""
        return _present(
            noisy=str(self.noisy),
            clean=str(self.clean),
            patient=self.patient,
            z_range_mm=self.z_range_mm,
            noisy_series_uid=self.noisy_series_uid,
            clean_series_uid=self.clean_series_uid,
            sections=self.sections,
            grey_range=self.grey_range,
        )


def _present(**entries: Any) -> dict[str, Any]:
    """Entries that are there: MONAI cannot put None into a batch."""
    return {key: value for key, value in entries.items() if value is not None}


OF_MICROGRAPHS = ("sections", "grey_range")
"""Fields that only entries of micrographs have."""

Entry = PoolScan | ScanPair
