"""What was taken away, as a series of its own: for whoever wants to see whether it is only noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset

from iscl_monai.dicom.derivation import SUBTRACTION, Derivation
from iscl_monai.dicom.headers import refusing_malformed
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.errors import DicomRefusal

RESIDUAL_KIND, RESIDUAL_TITLE = "RESIDUAL", "AI REMOVED NOISE ISCL"
SHOWN_HU = 100
"""Window width that the residual opens with, around 0 HU."""

NOT_OF_A_DIFFERENCE = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenterWidthExplanation",
    "RealWorldValueMappingSequence",
)


def residual_of(derivation: Derivation) -> Derivation:
    """What is said about the difference of source and derived series."""
    return replace(
        derivation,
        kind=RESIDUAL_KIND,
        title=RESIDUAL_TITLE,
        series_offset=78,
        operations=(*derivation.operations, SUBTRACTION),
        description=f"{derivation.description}. This is what was removed: source minus result",
    )


class ResidualWriter(SeriesWriter):
    """Writes ``source - derived`` in HU, exactly: the same slope, no intercept, signed 16 bits."""

    def write_residual(
        self,
        index: int,
        dataset: FileDataset,
        before: npt.NDArray[np.integer],
        after: npt.NDArray[np.integer],
    ) -> Path:
        """Write one slice of what was removed; see :meth:`SeriesWriter.write`.

        Args:
            index: of the slice in ``headers``.
            dataset: of the source slice, whole; changed in place.
            before: stored integers of the source (row, column).
            after: stored integers of the derived slice.

        Raises:
            DicomRefusal: differences that 16 bits cannot hold.
        """
        removed = before.astype(np.int64) - after.astype(np.int64)
        if np.abs(removed).max() > np.iinfo(np.int16).max:
            raise DicomRefusal(
                self.headers[index].path,
                tag="RescaleSlope",
                found=f"{dataset.get('RescaleSlope')}, so that {int(np.abs(removed).max())} steps were removed",
                needed=f"at most {np.iinfo(np.int16).max} steps",
                cure="leave --save-residual out",
            )
        with refusing_malformed(self.headers[index].path):
            for keyword in NOT_OF_A_DIFFERENCE:
                if keyword in dataset:
                    delattr(dataset, keyword)
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation = 1
            dataset.RescaleIntercept = 0
            dataset.WindowCenter, dataset.WindowWidth = 0, SHOWN_HU
        return self.write(index, dataset, removed.astype(np.int16))
