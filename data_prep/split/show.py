"""What is printed about a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.split.balance import SECTIONS
from data_prep.split.make import Split
from iscl_monai.console import printable

NO_TERMINAL_COLUMNS = 110


def show(path: Path, split: Split, console: Console | None = None) -> None:
    """Print the rule, the balance and what is wrong with it, in the order a reader needs them.

    Args:
        path: the datalist.
        split: what it is made of.
        console: where to print; None: standard output.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = NO_TERMINAL_COLUMNS
    cut = sum(len(option) > 1 for option in split.options.values())
    how = f"by z-range: {cut} cut, the others whole" if split.plan.by == "z" else "by whole patients"
    console.print(Text(f"Divided {how} ({split.plan.why})."))
    left_out = ", ".join(f"{count} {reason}" for reason, count in split.left_out.most_common())
    console.print(Text(f"Left out: {left_out or 'no series'}."))
    console.print(_table(split))
    for note in split.notes:
        console.print(Text(printable(note)))
    for warning in split.warnings:
        console.print(Text(printable(f"WARNING: {warning}"), style="bold red"))
    if not split.warnings:
        console.print(Text("Whatever is in one pool is in the other, too."))
    console.print(Text(str(path)), soft_wrap=True)


def _table(split: Split) -> Table:
    table = Table(title="Slices (patients)", title_justify="left", pad_edge=False)
    table.add_column("")
    table.add_column("value", overflow="fold")
    for section in SECTIONS:
        table.add_column(section, justify="right", no_wrap=True)
    table.add_row("scans or pairs", "", *(str(number) for number in split.entries().values()), end_section=True)
    for feature, values in split.balance.items():
        for index, (value, row) in enumerate(values.items()):
            cells = [_cell(row[section]) for section in SECTIONS]
            # Kernels are free text: what looks like markup is none.
            name = "all slices" if feature == "all" else feature if index == 0 else ""
            shown = "" if feature == "all" else value
            one_sided = bool(row["noisy"]["slices"]) != bool(row["clean"]["slices"])
            style = "bold red" if one_sided else ""
            table.add_row(Text(name), Text(printable(shown), style), *cells, end_section=index == len(values) - 1)
    return table


def _cell(count: Mapping[str, int]) -> str:
    return f"{count['slices']} ({count['patients']})" if count["slices"] else "-"
