"""How series are found by a patient's number without the database knowing it.

A row has a keyed digest (HMAC-SHA-256) of Patient ID and Accession Number. Whoever knows the number and has the key,
which is a file of its own, finds the row; from the row nobody gets back to the number.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from iscl_monai.service.key_file import read_or_make_key

KEY_FILE = "search.key"


class SearchKeys:
    """Makes the digests.

    Args:
        data: the data folder, with the key's file.

    Raises:
        ConfigRefusal: that file can be read by others.
    """

    def __init__(self, data: Path) -> None:
        self._key = read_or_make_key(data / KEY_FILE, "what came before is not found by numbers any more")

    def of(self, number: str) -> str:
        """The digest of a Patient ID or Accession Number, whatever blanks and case; "" if there is none."""
        normalized = "".join(number.split()).casefold()
        return hmac.new(self._key, normalized.encode(), hashlib.sha256).hexdigest() if normalized else ""
