"""``python -m data_prep VERB``: from a hospital's archive to a training set.

The same verbs are ``iscl-monai VERB``. Exit codes: see :mod:`iscl_monai.console`.
"""

# ruff: noqa: E402 - before what the commands import, the working folder is taken out of the places of modules

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from iscl_monai.console import add_version, import_nothing_from_working_folder, run, with_exit_codes
from iscl_monai.spoken import Verb

import_nothing_from_working_folder()

from data_prep.commands.degrade import degrade
from data_prep.commands.dose import dose
from data_prep.commands.mayo import mayo
from data_prep.commands.phantom import phantom
from data_prep.commands.scan import scan
from data_prep.commands.split import split
from data_prep.commands.split_stack import split_stack
from data_prep.commands.truth import truth

app = typer.Typer(
    name="python -m data_prep",
    help="From a hospital's archive to a training set: find fit series, simulate low dose, split without leaks.",
    no_args_is_help=True,
    add_completion=False,  # python -m has none; iscl-monai VERB has
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


add_version(app, "data_prep of iscl-monai")
for verb in (degrade, dose, mayo, phantom, scan, split, split_stack, truth):
    app.command(cls=Verb)(with_exit_codes(verb))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after ``python -m data_prep``; None: those of this process.

    Returns:
        0 when done, 2 when the input or an argument was refused, 130 when interrupted, 1 for a fault of ours.
    """
    return run(app, argv)


if __name__ == "__main__":
    sys.exit(main())
