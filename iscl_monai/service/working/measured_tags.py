"""Tags of rules that stand in no object: they are measured by a process of its own, which has the numerics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from iscl_monai.service.rules import MEASURED_TAGS

SLICES = 3  # of a series, evenly
WITHIN_S = 60.0


def measure(files: Sequence[Path]) -> dict[str, str]:
    """The measured tags of a series, by a process of its own.

    Args:
        files: of the series, in any order; a few of them are read.

    Returns:
        A text for each of :data:`iscl_monai.service.rules.MEASURED_TAGS`: the name of an iterative or learned
        reconstruction, and the noise in the quietest soft tissue in HU; "" for what is not known.
    """
    chosen = [str(file) for file in files[:: max(1, len(files) // SLICES)][:SLICES]]
    command = [sys.executable, "-m", "iscl_monai.service.working.measure", *chosen]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WITHIN_S, check=True)
        found = json.loads(done.stdout)
        return {tag: str(found[tag]) for tag in MEASURED_TAGS}
    except (subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError):
        return dict.fromkeys(MEASURED_TAGS, "")
