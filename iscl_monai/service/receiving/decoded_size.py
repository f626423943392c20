"""How large the pixels of an object are when they are not compressed, as its tags say, and its file allows."""

from __future__ import annotations

from typing import Any

from pydicom.uid import UID

SHAPE = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames")
LARGEST_INTEGER = 2**62  # that the database holds
MOST_COMPRESSED = 4096  # times smaller: an empty image is; what says it is smaller still is not believed


def decoded_bytes(tags: dict[str, Any], syntax: str, size: int) -> int:
    """Bytes that the pixels of an object take when they are not compressed; 0 if its tags do not say.

    Args:
        tags: :data:`SHAPE` as texts, which may be anything.
        syntax: Transfer Syntax UID.
        size: bytes of the file: pixels that are not compressed are no larger, whatever the tags say.
    """
    try:
        rows, columns, bits = (int(tags[keyword]) for keyword in SHAPE[:3])
        samples, frames = (int(tags[keyword] or 1) for keyword in SHAPE[3:])
    except ValueError:
        return 0
    compressed = UID(syntax).is_compressed or UID(syntax).is_deflated
    largest = min(size * (MOST_COMPRESSED if compressed else 1), LARGEST_INTEGER)
    return max(0, min(rows * columns * -(-bits // 8) * samples * frames, largest))
