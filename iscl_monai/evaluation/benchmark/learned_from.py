"""What each row of a benchmark has learned from: rows trained here are alike in it, others need not be."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.evaluation.benchmark.methods import BUNDLE, FUNCTION, IMAGES, Method
from iscl_monai.evaluation.training_record import trained_on

NOTHING = "nothing"
TUNED = "nothing; its strength is tuned on training scans of ours"
UNKNOWN = "not known"


def learned_from(method: Method, *, steps: int, datalist_digest: str) -> str:
    """In words.

    Args:
        method: of the row.
        steps: that each method trained here was trained for.
        datalist_digest: of the datalist that is scored.

    Raises:
        CheckpointRefusal: if the record of a bundle cannot be read.
    """
    if method.kind == BUNDLE:
        return f"{trained_on(Path(method.source), datalist_digest)}; how long is not known"
    if method.kind in (FUNCTION, IMAGES):
        return UNKNOWN
    if not method.training:
        return TUNED if method.kind == "classical" else NOTHING
    return f"this datalist, {SHARES[method.kind]}: {steps} steps on the patches that all rows trained here saw"


SHARES = {
    "unpaired": "its noisy and its clean scans, unpaired",
    "noisy only": "its noisy scans",
    "supervised": "pairs, which a hospital does not have",
}
