"""What is printed about a split of the collection."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.mayo.make import MayoSplit
from iscl_monai.console import printable


def show(path: Path, split: MayoSplit, console: Console | None = None) -> None:
    """Print who is where, and who is missing.

    Args:
        path: the datalist.
        split: who is in it.
        console: where to print; None: standard output.
    """
    console = console or Console(highlight=False)
    table = Table(title="Patients (slices)", title_justify="left")
    table.add_column("region")
    for section in split.sections:
        table.add_column(section, justify="right")
    for region, row in split.counts().items():
        cells = (f"{patients} ({slices})" if patients else "-" for patients, slices in row.values())
        table.add_row(region, *cells)
    console.print(table)
    if split.missing:
        lacking = ", ".join(f"{patient} ({reason})" for patient, reason in split.missing.items())
        text = f"WARNING: this is not the whole split; {len(split.missing)} patients are missing: {lacking}"
        console.print(Text(printable(text), style="bold red"))
    if not split.sections["validation"]:
        console.print(Text("No validation pairs: weights cannot be chosen by them."))
    console.print(Text(str(path)), soft_wrap=True)
