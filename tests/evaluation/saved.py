"""Scans written as NIfTI, so that what was denoised elsewhere can be read back."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.scans import Scan


def save_nifti(path: Path, scan: Scan, hu: npt.NDArray[np.floating]) -> Path:
    """These HU (slice, row, column) at the place of a scan, not rounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine_lps
    nibabel.save(nibabel.Nifti1Image(np.asarray(hu, np.float32).transpose(2, 1, 0), ras[:, [2, 1, 0, 3]]), path)
    return path
