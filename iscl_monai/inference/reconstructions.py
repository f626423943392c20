"""Iterative reconstructions that weights have not seen: their noise has another texture than that of the training."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from iscl_monai.released import record_in


def warning_of(reconstructions: Iterable[str], bundle: Path, weights: str | None = None) -> str:
    """One line for a series whose reconstruction the weights have not seen; ``""`` when there is nothing to say.

    Args:
        reconstructions: of the series' headers (:attr:`iscl_monai.dicom.headers.SliceHeader.reconstruction`).
        bundle: whose record of training names the reconstructions of its training. Weights without one, or of an
            earlier version, say nothing.
        weights: which of the bundle's (:func:`iscl_monai.released.weights_in`).
    """
    names = sorted(set(reconstructions) - {""})
    if not names:
        return ""
    trained = _trained_on(record_in(bundle, weights))
    seen = {_family(name) for name in trained or ()}
    unseen = [name for name in names if _family(name) not in seen]
    if not unseen:
        return ""
    shown = ", ".join(unseen)
    if trained is None:
        return f"iterative reconstruction ({shown}); the weights do not say whether they have seen any"
    return f"iterative reconstruction ({shown}), which the weights have not seen ({', '.join(trained) or 'none'} seen)"


def _family(name: str) -> str:
    """Without the strength."""
    head, _, strength = name.rpartition(" ")
    return head if head and (strength.isdigit() or strength.islower()) else name


def _trained_on(path: Path) -> list[str] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content.get("reconstructions") if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None
