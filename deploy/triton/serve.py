"""Serve what ``iscl-monai export`` wrote by a Triton server: ``python serve.py denoiser.onnx``.

The model is called ``iscl``: ``image_hu`` in, ``denoised_hu`` out, float32, (batch, 1, rows, columns), Hounsfield
units, whole slices. Rounding, padding and DICOM are the client's part, and so is the label: AI-processed, derived, not
for primary diagnosis. Needs ``pip install nvidia-pytriton onnxruntime``; the ports are those of Triton, 8000 to 8002.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

LARGEST_BATCH = 8


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="file of iscl-monai export, --format onnx")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.model)

    @batch
    def denoise(image_hu: Any) -> dict[str, Any]:
        [denoised_hu] = session.run(None, {"image_hu": image_hu})
        return {"denoised_hu": denoised_hu}

    def slices(name: str) -> Tensor:
        return Tensor(name=name, dtype=np.float32, shape=(1, -1, -1))

    config = TritonConfig(http_address=arguments.host, grpc_address=arguments.host)
    with Triton(config=config) as server:
        server.bind(
            "iscl",
            denoise,
            inputs=[slices("image_hu")],
            outputs=[slices("denoised_hu")],
            config=ModelConfig(max_batch_size=LARGEST_BATCH),
        )
        server.serve()


if __name__ == "__main__":
    main()
