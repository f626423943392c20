"""Micrographs: grey images of 8 or 16 bits (or MRC floats), read as they are or refused, and written back changed.

>>> from iscl_monai.micrograph import read_micrographs, write_micrographs
>>> stack = read_micrographs("sections/")  # doctest: +SKIP
>>> for image in stack:  # float32 grey levels (row, column), one section at a time  # doctest: +SKIP
...     print(image.mean())
>>> write_micrographs(stack, "denoised/", lambda piece, image: denoised(image) - image)  # doctest: +SKIP

``stack`` reads one file, or a folder of single images; ``tiff``, ``png`` and ``mrc`` know one container each;
``write`` applies a change to the stored numbers, writes the same container, and reads it back. No torch, no MONAI.
"""

from iscl_monai.micrograph.grey import Clipped
from iscl_monai.micrograph.scale import GreyScale
from iscl_monai.micrograph.stack import MicrographStack, is_micrograph, read_micrographs
from iscl_monai.micrograph.write import Change, Piece, Written, write_micrographs

__all__ = [
    "Change",
    "Clipped",
    "GreyScale",
    "MicrographStack",
    "Piece",
    "Written",
    "is_micrograph",
    "read_micrographs",
    "write_micrographs",
]
