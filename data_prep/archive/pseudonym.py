"""Names for patients that tell nothing to who does not hold the key."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.durable import sync_folder
from iscl_monai.errors import OutputRefusal

KEY_BYTES = 32
KEY_FILE = "patient.key"


@dataclass(frozen=True)
class Pseudonyms:
    """Patient ID to the text that stands for the patient.

    Args:
        key: secret of the hash, without which IDs cannot be tried out one after the other; None: keep the IDs.
    """

    key: bytes | None

    def of(self, patient_id: str) -> str:
        """The same text for the same ID; ``""`` for a blank ID, which may be anybody's."""
        if self.key is None or not patient_id:
            return patient_id
        identity = patient_id.encode("utf-8", "backslashreplace")
        # The prefix keeps spreadsheets from reading 1e5 as a number.
        return f"p-{hashlib.blake2b(identity, key=self.key, digest_size=8).hexdigest()}"

    def mark(self) -> str:
        """What tells these pseudonyms from others, without the key."""
        return "kept" if self.key is None else hashlib.blake2b(b"mark", key=self.key, digest_size=8).hexdigest()


def secret_key(folder: Path) -> bytes:
    """The key of a folder of results, made at the first call and readable by its owner alone.

    Args:
        folder: exists.

    Raises:
        OutputRefusal: when the file there is no key.
    """
    path = folder / KEY_FILE
    if not path.exists():
        fresh = folder / f".{KEY_FILE}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(folder)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OutputRefusal(
            f"{path} holds {len(key)} bytes",
            allowed=f"the {KEY_BYTES} bytes of a key that scan made",
            cure="bring the true one back, or remove it: patients then get new pseudonyms",
        )
    return key
