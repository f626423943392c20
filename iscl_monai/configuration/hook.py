"""A refusal ends a run with one line and exit code 2, also below MONAI's and ignite's own errors."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from iscl_monai.errors import Refusal, TrainingStopped


def install_hook() -> None:
    """Let what ends this process be told in one line where it was raised on purpose."""
    sys.excepthook = _one_line


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what was raised on purpose in one line; leave everything else to Python."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (Refusal, TrainingStopped)):
            print(f"{type(cause).__name__}: {cause}", file=sys.stderr, flush=True)
            # The interpreter would end with 1 whatever the hook does; a refusal ends with 2 everywhere.
            sys.stdout.flush()
            os._exit(2 if isinstance(cause, Refusal) else 1)
        cause = cause.__cause__ or cause.__context__
    sys.__excepthook__(kind, error, trace)
