"""Keys of the node: files of random bytes in the data folder, made when they are first needed."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from iscl_monai.errors import ConfigRefusal

BYTES = 64


def read_or_make_key(path: Path, if_removed: str) -> bytes:
    """A key, readable for the node's user alone.

    Args:
        path: of its file.
        if_removed: what is lost when somebody removes it.

    Raises:
        ConfigRefusal: the file is not ours alone, or not whole.
    """
    with suppress(FileExistsError):
        # Under another name first: a crash between the two lines must not leave an empty key.
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, secrets.token_bytes(BYTES))
            os.fsync(handle)
            os.link(fresh, path)
        finally:
            os.close(handle)
            fresh.unlink()
    key = path.read_bytes()
    if path.stat().st_mode & 0o077 or len(key) != BYTES:
        raise ConfigRefusal(
            f"{path} can be read by others, or is not whole",
            allowed=f"{BYTES} bytes with mode 0600",
            cure=f"remove it: {if_removed}",
        )
    return key
