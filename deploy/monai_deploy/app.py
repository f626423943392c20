"""The bundle in MONAI Deploy: a NIfTI volume in, one in denoised Hounsfield units out.

    python deploy/monai_deploy/app.py HUB_FOLDER scan.nii.gz denoised.nii.gz

Needs ``monai-deploy-app-sdk`` and the folder of ``make hub``. Between source and sink runs the SDK's own operator; what
it does not do is pass Hounsfield units on: it casts every image that leaves it to 8 bits, which are for label maps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import (
    BundleConfigNames,
    IOMapping,
    MonaiBundleInferenceOperator,
)


class DenoisingOperator(MonaiBundleInferenceOperator):  # type: ignore[misc]
    """The SDK's operator, whose output keeps its numbers: (slice, row, column), float32 HU."""

    def _send_output(self, value: Any, name: str, metadata: Any, op_output: Any, context: Any) -> None:
        volume = np.asarray(value, np.float32)[0]  # (1, column, row, slice)
        op_output.emit(Image(np.swapaxes(volume, 0, 2), metadata=metadata), name)


class ReadNifti(Operator):  # type: ignore[misc]
    """Emits a volume as the SDK's DICOM operator would: (slice, row, column)."""

    def __init__(self, fragment: Fragment, *args: Any, path: Path, **kwargs: Any) -> None:
        self.path = path
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """One output."""
        spec.output("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Read and emit."""
        image = nibabel.load(self.path)
        volume = np.swapaxes(np.asarray(image.dataobj, np.float32), 0, 2)
        row_mm, column_mm, slice_mm = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
        # What the SDK asks of an image that comes from DICOM, before it turns it to (column, row, slice).
        metadata = {
            "row_pixel_spacing": row_mm,
            "col_pixel_spacing": column_mm,
            "depth_pixel_spacing": slice_mm,
            "nifti_affine_transform": image.affine,
        }
        op_output.emit(Image(volume, metadata=metadata), "image")


class WriteNifti(Operator):  # type: ignore[misc]
    """Writes what comes, float32."""

    def __init__(self, fragment: Fragment, *args: Any, path: Path, **kwargs: Any) -> None:
        self.path = path
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """One input."""
        spec.input("pred")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write."""
        image = op_input.receive("pred")
        affine = np.asarray(image.metadata()["affine"], np.float64)
        nibabel.Nifti1Image(np.swapaxes(image.asnumpy(), 0, 2), affine).to_filename(self.path)


class DenoisingApp(Application):  # type: ignore[misc]
    """Source, bundle, sink."""

    def __init__(self, bundle: Path, source: Path, destination: Path) -> None:
        self.bundle, self.source, self.destination = bundle, source, destination
        super().__init__()

    def compose(self) -> None:
        """Put the operators in a row."""
        read = ReadNifti(self, CountCondition(self, 1), path=self.source, name="read")
        denoise = DenoisingOperator(
            self,
            app_context=AppContext({}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=self.bundle,
            bundle_config_names=BundleConfigNames(config_names=["inference"]),
            name="denoise",
        )
        write = WriteNifti(self, path=self.destination, name="write")
        self.add_flow(read, denoise, {("image", "image")})
        self.add_flow(denoise, write, {("pred", "pred")})


if __name__ == "__main__":
    DenoisingApp(*map(Path, sys.argv[1:4])).run()
