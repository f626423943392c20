"""Whom the node trusts as a client of web and mail servers, and how it shows who it is."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path


def trusted_authorities(ca: Path | None) -> ssl.SSLContext:
    """A context that trusts the authorities of a file, or of the system.

    Raises:
        OSError: the file cannot be read, or has no certificates (:class:`ssl.SSLError` is one).
    """
    return _context(str(ca), os.stat(ca).st_mtime_ns) if ca else _context()


@lru_cache(16)
def _context(file: str | None = None, changed_ns: int = 0) -> ssl.SSLContext:
    """Kept, since to read the authorities takes longer than most requests."""
    return ssl.create_default_context(cafile=file)


def read_secret(file: Path) -> str:
    """A token or password, read every time: it may be renewed while we run.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is no text.
    """
    return file.read_text(encoding="utf-8").strip()


def bearer_header(token_file: Path | None) -> dict[str, str]:
    """The header that carries a bearer token; none without a file. Raises as :func:`read_secret`."""
    return {"Authorization": f"Bearer {read_secret(token_file)}"} if token_file is not None else {}
