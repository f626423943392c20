"""What is known of a file that was written here while its object came in, without reading it again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class SpooledFile:
    """A file whose File Meta Information is ours, and that is complete.

    Args:
        syntax: Transfer Syntax UID of the presentation context.
        begin: offset of the data set in the file.
        digest: SHA-256 of transfer syntax and data set, as
            :func:`iscl_monai.service.receiving.examination.flush_and_digest` has it.
        file: open, with nothing left in its buffer.
    """

    syntax: str
    begin: int
    digest: str
    file: BinaryIO

    def flush(self) -> str:
        """Bring its bytes to the disk; the digest.

        Raises:
            OSError: they could not be written.
        """
        os.fsync(self.file.fileno())
        return self.digest
