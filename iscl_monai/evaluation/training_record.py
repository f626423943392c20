"""Weights are not scored on patients that they have seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iscl_monai.data.splits import protocol_names, refuse_collisions
from iscl_monai.errors import CheckpointRefusal, LeakRefusal
from iscl_monai.released import record_in
from iscl_monai.report.numbers import counted


def refuse_seen(bundle: Path, patients: Iterable[str], *, split_protocol: str = "") -> str:
    """Refuse to score a bundle on patients of its training or validation, by the record beside its weights.

    Args:
        bundle: folder of the trained bundle.
        patients: names to be scored, as the datalist has them.
        split_protocol: the published split that the datalist follows; with it the names are that collection's.

    Returns:
        What could be checked, in words.

    Raises:
        LeakRefusal: naming the patients.
        CheckpointRefusal: if the record cannot be read, or names a split that is not known.
    """
    record = _record(record_in(bundle))
    if record is None:
        return "the weights do not say which patients they have seen: nothing could be checked"
    scored = {_same(name): name for name in patients}
    trained = {_same(str(name)) for name in record.get("patients") or ()} - {""}
    both = sorted(scored[name] for name in scored.keys() & trained)
    if both:
        raise LeakRefusal(
            f"weights of {bundle} have seen {', '.join(both)}, in training or where they were chosen",
            allowed="patients that the weights have not seen",
            cure="take these out of the section that is scored, or score other weights",
        )
    named = str(record.get("split_protocol") or "")
    if named and split_protocol:
        refuse_collisions(named, [name.strip().upper() for name in scored.values()])
    if trained:
        checked = f"no patient among the {len(trained)} that the weights have seen"
        return f"{checked}; split {named}" if named else checked
    if named and split_protocol:
        return (
            f"the weights name no patients, only split {named}: none of its training or validation patients is scored"
        )
    return "the weights name no patients that they have seen: nothing could be checked"


def trained_on(bundle: Path, datalist_digest: str) -> str:
    """What a bundle was trained on, in words, by the record beside its weights.

    Args:
        bundle: folder of the trained bundle.
        datalist_digest: of the datalist that is scored.

    Raises:
        CheckpointRefusal: if the record cannot be read.
    """
    record = _record(record_in(bundle)) or {}
    patients, digest = record.get("patients") or (), record.get("datalist_digest")
    if not patients:
        return "elsewhere; the bundle does not say on what"
    if not digest:
        return f"elsewhere, on {counted(len(patients), 'patient')}"
    same = "this datalist" if digest == datalist_digest else f"another datalist (digest {digest})"
    return f"elsewhere, on {counted(len(patients), 'patient')} of {same}"


def check_fold(bundle: Path, datalist_digest: str) -> None:
    """Refuse a bundle that was not trained on the fold that it is to be scored on: it may have seen the test.

    Args:
        bundle: its folder.
        datalist_digest: of the fold.

    Raises:
        LeakRefusal: it was trained on other data, or does not say on what.
        CheckpointRefusal: if the record cannot be read.
    """
    digest = (_record(record_in(bundle)) or {}).get("datalist_digest")
    if digest != datalist_digest:
        raise LeakRefusal(
            f"weights of {bundle}, trained on a datalist of digest {digest}",
            allowed=f"weights trained on this fold, digest {datalist_digest}",
            cure="give each fold its own bundle: --bundle 'iscl=runs/{fold}'",
        )


def _same(name: str) -> str:
    """One patient, however the name was typed."""
    return name.strip().casefold()


def _record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("patients", []), list):
            raise ValueError("no object with a list of patients")
        named = content.get("split_protocol") or ""
        if named and named not in protocol_names():
            raise ValueError(f"split_protocol {named!r} is none of {', '.join(protocol_names())}")
    except (OSError, ValueError) as error:
        raise CheckpointRefusal(
            f"{path}: {error}",
            allowed='{"patients": [...], "split_protocol": ...} as the training wrote it',
            cure="copy it again from the folder of the training",
        ) from error
    return content
