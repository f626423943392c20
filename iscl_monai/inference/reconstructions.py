"""Iterative reconstructions that weights have not seen: their noise has another texture than that of the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iscl_monai.quality.familiarity import Difference


def unseen_reconstructions(reconstructions: Iterable[str], trained: Sequence[str] | None) -> list[Difference]:
    """What is to be said of a series whose reconstruction the weights have not seen; none when there is nothing.

    Args:
        reconstructions: of the series' headers (:attr:`iscl_monai.dicom.headers.SliceHeader.reconstruction`).
        trained: names of the iterative reconstructions of the training; None: the weights do not say.
    """
    names = sorted(set(reconstructions) - {""})
    seen = {_family(name) for name in trained or ()}
    unseen = [name for name in names if _family(name) not in seen]
    if not unseen:
        return []
    shown = ", ".join(unseen)
    named = f"iterative reconstruction ({shown})"
    if trained is None:
        return [Difference(f"{named}; the weights do not say whether they have seen any", f"{named} perhaps not seen")]
    others = ", ".join(trained) or "none"
    return [Difference(f"{named}, which the weights have not seen ({others} seen)", f"{named} not seen")]


def _family(name: str) -> str:
    """Without the strength."""
    head, _, strength = name.rpartition(" ")
    return head if head and (strength.isdigit() or strength.islower()) else name
