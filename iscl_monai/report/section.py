"""Sections of a page as plain data: a heading, sentences, a table, plots."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from iscl_monai.report.explained import Topic
from iscl_monai.report.plot import Plot


@dataclass(frozen=True, kw_only=True)
class Table:
    """Words in rows and columns, ready for any format.

    Args:
        title: what it shows, its protocol by name; not in the HTML, where a section has the title.
        heads: of the columns.
        lines: of cells, each as long as ``heads``.
        words: indices of the columns that hold words, not numbers: aligned left, wrapped.
        row_names: whether the first cell of a line names it.
        verdicts: column of verdicts, whose words before the colon link to what explains them; None: there is none.
        topic: see :mod:`iscl_monai.report.explained`.
    """

    title: str = ""
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: Collection[int] = ()
    row_names: bool = True
    verdicts: int | None = None
    topic: Topic | Literal[""] = ""

    def markdown(self) -> str:
        """For documents."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        lines = [self.heads, rule, *self.lines]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page; what is empty is left out.

    Args:
        title: its heading.
        intro: a paragraph under the heading.
        table: numbers.
        plots: curves, beside each other where there is room.
        note: a paragraph at the end, how to read it.
    """

    title: str
    intro: str = ""
    table: Table | None = None
    plots: Sequence[Plot] = ()
    note: str = ""


def table_section(table: Table, *, note: str = "") -> Section:
    """A table under its own title."""
    return Section(title=table.title, table=table, note=note)
