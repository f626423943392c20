"""What every verb shares: one line for whatever happens, and an exit code.

0 done; 2 refused, one line says what came, what is allowed and what to do; 1 a fault of ours, whose traceback is in a
log; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from iscl_monai.errors import Refusal
from iscl_monai.version import __version__

DISCLAIMER = "AI-processed, derived, not for primary diagnosis"


def printable(text: str) -> str:
    """Without what a terminal would obey, and what no terminal can show: titles and names come from anywhere."""
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    encoding = sys.stdout.encoding or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def say(line: str) -> None:
    """Print one line, whatever is in it."""
    try:
        typer.echo(printable(line))
    except BrokenPipeError:  # whoever listened has gone; the work is done all the same
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays until the end


@contextmanager
def exit_codes(left: str = "nothing was written") -> Iterator[None]:
    """Turn whatever happens into one line and an exit code.

    Args:
        left: what is there when the verb does not end well.
    """
    for name in ("SIGTERM", "SIGHUP"):  # so that what is half written is removed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    try:
        yield
    except Refusal as refusal:
        _end(f"{type(refusal).__name__}: {refusal}", refusal.exit_code)
    except KeyboardInterrupt:
        _end(f"interrupted; {left}", 130)
    except OSError as error:
        _end(f"OutputRefusal: {error}; allowed: files that can be read and written; do: check space and rights", 2)
    except Exception as error:
        log = Path(tempfile.gettempdir()) / f"iscl-monai-{os.getpid()}.log"
        log.write_text(
            f"iscl-monai {__version__}, {sys.argv[1:]}\n{traceback.format_exc()}", "utf-8", "backslashreplace"
        )
        _end(f"a fault of ours: {type(error).__name__}; {left}; please report {log}", 1)


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def _end(line: str, code: int) -> None:
    typer.echo(printable(line), err=True)
    raise typer.Exit(code)


def found_bundle(bundle: Path | None) -> Path:
    """The bundle that was named, or that of the repository we stand in.

    Raises:
        ConfigRefusal: if none was named and there is none here.
    """
    if bundle is not None:
        return bundle
    from iscl_monai.configuration import bundle_root

    return Path(bundle_root())
