"""``python -m data_prep VERB``: from a hospital's archive to a training set.

Exit codes: 0 done; 2 refused, one line says what came, what is allowed and what to do; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from data_prep.commands.dose import dose
from data_prep.commands.mayo import mayo
from data_prep.commands.phantom import phantom
from data_prep.commands.scan import scan
from data_prep.commands.split import split
from iscl_monai.errors import Refusal

app = typer.Typer(
    name="python -m data_prep",
    help="From a hospital's archive to a training set: find fit series, simulate low dose, split without leaks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for verb in (dose, mayo, phantom, scan, split):
    app.command()(verb)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after ``python -m data_prep``; None: those of this process.

    Returns:
        0 when done, 2 when the input or an argument was refused, 130 when interrupted.
    """
    try:
        app(args=argv if argv is None else list(argv))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return refusal.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
