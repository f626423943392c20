"""``split`` from the table to the datalist."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.split.assign import Plan, assign, make_plan
from data_prep.split.balance import SECTIONS, one_sided, shown
from data_prep.split.parts import Option
from data_prep.split.people import Person, gather
from data_prep.split.request import SplitRequest
from data_prep.split.rows import Selection, select
from data_prep.split.write import content_of, write_datalist
from data_prep.table import SeriesRow, read_table
from iscl_monai.durable import whole_file
from iscl_monai.errors import DatalistRefusal

BALANCE = "balance.json"


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split, and what to tell about it.

    Attributes:
        options: patient -> what becomes of it.
        plan: the rule.
        balance: feature -> value -> section -> ``slices`` and ``patients``.
        warnings: what only one pool has.
        notes: what else to know.
        left_out: number of series per reason.
        shared: folders that hold several series.
    """

    options: Mapping[str, Option]
    plan: Plan
    balance: dict[str, dict[str, dict[str, dict[str, int]]]]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: Counter[str]
    shared: frozenset[str]

    def entries(self) -> dict[str, int]:
        """Number of entries per section."""
        return {name: sum(len(option.get(name, ())) for option in self.options.values()) for name in SECTIONS}


def split_table(table: Path, destination: Path, request: SplitRequest) -> tuple[Path, Split]:
    """Write ``datalist.json`` and ``balance.json`` from the table of an archive.

    The same table and request give the same bytes, in whatever order the rows stand.

    Args:
        table: ``.parquet`` or ``.csv``, or the folder with ``series.parquet``.
        destination: folder for both files.
        request: what is asked for.

    Returns:
        The datalist, and what it is made of.

    Raises:
        DatalistRefusal: when the table cannot be split.
        LeakRefusal: when one person has two names.
        OutputRefusal: when another datalist stands there.
    """
    table, destination = Path(os.path.abspath(table)), Path(os.path.abspath(destination))
    split = split_rows(read_table(table), request, table=str(table))
    description = f"python -m data_prep split, by {split.plan.by}, seed {request.seed}"
    path = write_datalist(content_of(split.options, split.shared, description), destination)
    with whole_file(destination / BALANCE) as file:
        file.write((json.dumps(_summary(split), indent=2, ensure_ascii=False) + "\n").encode())
    return path, split


def split_rows(rows: Sequence[SeriesRow], request: SplitRequest, *, table: str = "TABLE") -> Split:
    """Split rows; nothing is read or written.

    Args:
        rows: of a table.
        request: what is asked for.
        table: what the table is called in the command of a refusal.

    Raises:
        DatalistRefusal: when the rows cannot be split.
        LeakRefusal: when one person has two names.
    """
    selection = select(rows, request)
    people, without_side = gather(selection.rows, request)
    left_out = selection.left_out + without_side
    _check_both_sides(people, selection, left_out, table)
    plan = make_plan(people, request)
    options = assign(people, plan, request)
    balance = shown(options, levels=plan.by == "z")
    return Split(
        options=options,
        plan=plan,
        balance=balance,
        warnings=tuple(one_sided(balance)),
        notes=selection.notes + tuple(_notes(options, people, request)),
        left_out=left_out,
        shared=selection.shared,
    )


def _check_both_sides(people: Sequence[Person], selection: Selection, left_out: Counter[str], table: str) -> None:
    fit = len(selection.rows)
    reasons = "".join(f"; left out: {count} {reason}" for reason, count in left_out.most_common())
    dose = f"python -m data_prep dose {table} LOW --fraction 0.25, then split LOW/series.parquet"
    cures = {"clean": "say which are clean enough: --clean-below HU", "noisy": dose}
    if not people:
        cures["clean"] = f"{dose}; or sort real scans by noise: --noisy-above HU --clean-below HU"
    for side, words in (("clean", "full dose"), ("noisy", "low dose")):
        if not any(getattr(person, side) for person in people):
            raise DatalistRefusal(
                f"none of {fit} fit series is {words}{reasons}", allowed="some of each side", cure=cures[side]
            )


def _notes(options: Mapping[str, Option], people: Sequence[Person], request: SplitRequest) -> list[str]:
    notes = []
    used = {name for option in options.values() for name in option}
    pairable = sum(bool(person.pairs) for person in people)
    for section, share in (("validation", request.validation), ("test", request.test)):
        if share and section not in used:
            notes.append(f"No {section} pairs: {pairable} of {len(people)} patients have a pair, too few to spare one.")
    return notes


def _summary(split: Split) -> dict[str, Any]:
    return {
        "by": split.plan.by,
        "why": split.plan.why,
        "entries": split.entries(),
        "only_in_one_pool": split.warnings,
        "notes": split.notes,
        "left_out": dict(sorted(split.left_out.items())),
        "balance": split.balance,
    }
