"""One door for every kind of input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iscl_monai.dicom.images import is_image_file
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.image import denoise_image, is_nifti
from iscl_monai.inference.places import check_source
from iscl_monai.inference.series import Outcome, Watcher, denoise_series
from iscl_monai.inference.slice_denoiser import SliceDenoiser


def denoise(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: SliceDenoiser,
    series_uid: str | None = None,
    save_residual: bool = False,
    trust_hu: bool = False,
    strict: bool = False,
    keep_private: Sequence[str] = (),
    workers: int | None = None,
    processes: int | None = 0,
    watcher: Watcher | None = None,
    training: TrainingRecord | None = None,
) -> Outcome:
    """Denoise a DICOM folder, a DICOM file or a NIfTI volume into the same kind of thing.

    See :func:`~iscl_monai.inference.series.denoise_series` and :func:`~iscl_monai.inference.image.denoise_image`.

    Raises:
        Refusal: whatever would have to be guessed, or cannot be written; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_source(source)
    if is_image_file(source) and source.is_file():
        _check_nifti(source, series_uid, strict=strict, keep_private=keep_private)
        return denoise_image(
            source,
            destination,
            denoiser=denoiser,
            save_residual=save_residual,
            trust_hu=trust_hu,
            workers=workers,
            watcher=watcher,
            training=training,
        )
    check_trust(source, trust_hu=trust_hu)
    return denoise_series(
        source,
        destination,
        denoiser=denoiser,
        series_uid=series_uid,
        save_residual=save_residual,
        strict=strict,
        keep_private=keep_private,
        workers=workers,
        processes=processes,
        watcher=watcher,
        training=training,
    )


def check_trust(source: Path, *, trust_hu: bool) -> None:
    """Refuse ``trust_hu`` where it would be ignored.

    Raises:
        ConfigRefusal: for anything but a NIfTI file.
    """
    if trust_hu and not is_nifti(source):
        raise ConfigRefusal(
            f"--trust-hu with {source}",
            allowed="--trust-hu with a NIfTI file: DICOM says itself what its values are",
            cure="leave it out",
        )


def _check_nifti(source: Path, series_uid: str | None, *, strict: bool, keep_private: Sequence[str]) -> None:
    if not is_nifti(source):
        raise ImageRefusal(
            f"{source}",
            allowed="DICOM, .nii or .nii.gz",
            cure="convert it, e.g. SimpleITK.WriteImage(SimpleITK.ReadImage(...), 'scan.nii.gz')",
        )
    if series_uid is not None or strict or keep_private:
        raise ConfigRefusal(
            f"options for DICOM with the NIfTI file {source}",
            allowed="--series, --strict and --keep-private with DICOM only",
            cure="leave them out",
        )
