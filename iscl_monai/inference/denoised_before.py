"""What denoising has made says so, whatever its container, and is not denoised again."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.errors import ImageRefusal

MARK = "AI-processed, derived"
"""How :data:`iscl_monai.console.DISCLAIMER` and :data:`iscl_monai.micrograph.file.NOTE` begin, which every file has."""


def check_not_denoised(path: Path, description: str) -> None:
    """Refuse to denoise what denoising has made: its noise is none that weights were trained on.

    Args:
        path: of the image.
        description: the free text that it holds.

    Raises:
        ImageRefusal: the text says that the image is AI-processed.
    """
    if MARK in description:
        raise ImageRefusal(
            f"{path}: its description says {MARK!r}",
            allowed="images that were not denoised before",
            cure="give the image that it was made from",
        )
