"""``python -m data_prep VERB``: from a hospital's archive to a training set.

Exit codes: 0 done; 2 refused, one line says what came, what is allowed and what to do; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from data_prep.commands.dose import dose
from data_prep.commands.mayo import mayo
from data_prep.commands.phantom import phantom
from data_prep.commands.scan import scan
from data_prep.commands.split import split
from iscl_monai.errors import Refusal

INTERRUPTED = 130
UsageError: Any = typer.BadParameter.__mro__[1]
"""The parent of all that is wrong with an argument; newer typers bring a click of their own."""

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
        done = typer.main.get_command(app).main(
            args=None if argv is None else list(argv), prog_name=app.info.name, standalone_mode=False
        )
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return refusal.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as end:  # the reader of our output has gone
        return end.code if isinstance(end.code, int) else 1
    except UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # that one has shown the help
            print(_in_one_line(error), file=sys.stderr)
        return Refusal.exit_code
    return done if isinstance(done, int) else 0


def _in_one_line(error: Any) -> Refusal:
    """What typer tells in a box of several lines."""
    context = error.ctx
    verb = context.info_name if context is not None and context.parent is not None else ""
    verbs = ", ".join(command.callback.__name__ for command in app.registered_commands if command.callback)
    return Refusal(
        error.format_message().rstrip("."),
        allowed=context.command.get_usage(context).removeprefix("Usage: ") if verb else verbs,
        cure=f"python -m data_prep {verb or 'VERB'} --help",
    )


if __name__ == "__main__":
    sys.exit(main())
