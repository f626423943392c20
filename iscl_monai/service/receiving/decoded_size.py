"""How large the pixels of an object are when they are not compressed, as its tags say."""

from __future__ import annotations

from typing import Any

SHAPE = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames")
LARGEST_INTEGER = 2**62  # that the database holds


def decoded_bytes(tags: dict[str, Any]) -> int:
    """Bytes that the pixels of an object take when they are not compressed; 0 if its tags do not say.

    Args:
        tags: :data:`SHAPE` as texts, which may be anything.
    """
    try:
        rows, columns, bits = (int(tags[keyword]) for keyword in SHAPE[:3])
        samples, frames = (int(tags[keyword] or 1) for keyword in SHAPE[3:])
    except ValueError:
        return 0
    return max(0, min(rows * columns * -(-bits // 8) * samples * frames, LARGEST_INTEGER))
