"""Files of tensors: written so that a crash never costs the old one, read so that no code in them can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from iscl_monai.durable import whole_file
from iscl_monai.errors import CheckpointRefusal


def save_durably(content: Any, path: Path) -> None:
    """Write with ``torch.save`` so that after any crash the path holds the old file or the new one, whole."""
    with whole_file(path) as file:
        torch.save(content, file)


def load_tensors(path: Path, *, map_location: Any = "cpu") -> Any:
    """Read a file of tensors and plain values only.

    Raises:
        CheckpointRefusal: if it is absent, damaged or holds anything else.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything: KeyError, UnicodeDecodeError ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        # torch advises to load what is not tensors all the same, which would run code from the file.
        reason = type(error).__name__ if "weights_only" in reason else reason
        raise CheckpointRefusal(
            f"{path}: {reason}",
            allowed="a whole file of tensors",
            cure="use another one",
        ) from None


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Put the file into what is refused about its content."""
    try:
        yield
    except CheckpointRefusal as refusal:
        raise CheckpointRefusal(f"{path}: {refusal.came}", allowed=refusal.allowed, cure=refusal.cure) from None
