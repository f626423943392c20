"""The transfer syntaxes in which objects are taken: those that can be decoded here."""

from __future__ import annotations

from functools import cache

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
LOSSLESS = (
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)
LOSSY = (JPEGExtended12Bit, JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


@cache
def readable_syntaxes() -> tuple[str, ...]:
    """Transfer syntax UIDs in the order in which they are preferred when a peer leaves the choice to us."""
    coded = [syntax for syntax in (*LOSSLESS, *LOSSY) if get_decoder(syntax).is_available]
    return tuple(str(syntax) for syntax in (*NATIVE, DeflatedExplicitVRLittleEndian, *coded))
