"""What every command line shares: one line for whatever happens, and an exit code.

0 done; 2 refused, one line says what came, what is allowed and what to do; 3 done in part, a line for each series that
was refused; 1 a fault of ours, whose traceback is in a log; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from iscl_monai import spoken
from iscl_monai.errors import Refusal
from iscl_monai.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

Verb = TypeVar("Verb", bound=Callable[..., Any])
UsageError: Any = typer.BadParameter.__mro__[1]
"""The parent of all that is wrong with an argument; newer typers bring a click of their own."""

IN_PART = 3
INTERRUPTED = 130
COLUMNS_OF_A_LOG = 1000
DISCLAIMER = "AI-processed, derived, not for primary diagnosis"


def import_nothing_from_working_folder() -> None:
    """Take the folder in which ``python -m`` was started out of the places of modules, unless this package lies there.

    Dependencies try to import modules that need not exist; a folder ``dl`` full of downloads is no module of that name.
    """
    here, package = os.getcwd(), str(Path(__file__).resolve().parents[1])
    if here != package:
        sys.path[:] = [place for place in sys.path if place not in ("", here)]


def printable(text: str) -> str:
    """Without what a terminal would obey, and what no terminal can show: titles and names come from anywhere."""
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    encoding = sys.stdout.encoding or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def say(line: str) -> None:
    """Print one line, whatever is in it."""
    try:
        typer.echo(printable(line))
    except BrokenPipeError:  # whoever listened has gone; the work is done all the same
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays until the end


def table_console() -> Console:
    """Where tables go: as wide as the terminal, or as a table is where there is none, so that a log holds all of it.

    Text is no markup: kernels and names may hold brackets.
    """
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = COLUMNS_OF_A_LOG
    return console


def cells(*texts: str) -> list[str]:
    """A row of a table, :func:`printable`: rich hands what a terminal obeys to it, and fails at what it cannot show."""
    return [printable(text) for text in texts]


@contextmanager
def exit_codes(left: str = "nothing was written") -> Iterator[None]:
    """Turn whatever happens into one line and an exit code.

    Args:
        left: what is there when the verb does not end well.
    """
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {one: signal.signal(one, _terminated) for one in signals}  # so that what is half written is removed
    try:
        yield
    except Refusal as refusal:
        spoken.answer.refusal = refusal
        _end(f"{type(refusal).__name__}: {refusal}", refusal.exit_code)
    except (typer.Exit, typer.Abort):
        raise
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # that one has shown the help
            raise typer.Exit(Refusal.exit_code) from None
        _end(str(_wrong_argument(error)), Refusal.exit_code)
    except KeyboardInterrupt:
        _end(f"interrupted; {left}", INTERRUPTED)
    except OSError as error:
        _end(f"OutputRefusal: {error}; allowed: files that can be read and written; do: check space and rights", 2)
    except Exception as error:
        log = Path(tempfile.gettempdir()) / f"iscl-monai-{os.getpid()}.log"
        log.write_text(
            f"iscl-monai {__version__}, {sys.argv[1:]}\n{traceback.format_exc()}", "utf-8", "backslashreplace"
        )
        spoken.tell_fault(traceback.format_exc())
        _end(f"a fault of ours: {type(error).__name__}; {left}; please report {log}", 1)
    finally:
        for one, answer in before.items():  # all is said: to be ended now is no interruption
            signal.signal(one, answer if answer is not None else signal.SIG_DFL)


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def _end(line: str, code: int) -> None:
    typer.echo(printable(line), err=True)
    raise typer.Exit(code)


def with_exit_codes(verb: Verb) -> Verb:
    """A verb that ends as :func:`exit_codes` says, with the arguments and the help of the one given."""

    @wraps(verb)
    def ending_well(*args: Any, **options: Any) -> Any:
        with exit_codes(left="what was finished is kept"):
            return verb(*args, **options)

    return ending_well  # type: ignore[return-value]


def add_version(app: typer.Typer, program: str) -> None:
    """Give a program the option ``--version``.

    Args:
        app: of the program.
        program: what it is called.
    """

    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{program} {__version__}")
            raise typer.Exit

    option = typer.Option("--version", callback=show, is_eager=True, help="Print the version.")

    def options_before_the_verb(version: bool = False) -> None:
        """Options before the verb."""

    # The option is of this call: as text, an annotation would be looked up in the module.
    options_before_the_verb.__annotations__["version"] = Annotated[bool, option]
    app.callback()(options_before_the_verb)


def run(app: typer.Typer, argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        app: with a name, and verbs that end with :func:`exit_codes`.
        argv: the words after the program's name; None: those of this process.

    Returns:
        The exit code; a wrong argument is told in one line, too.
    """
    command = typer.main.get_command(app)
    try:
        with exit_codes():
            code = command.main(
                args=None if argv is None else list(argv), prog_name=app.info.name, standalone_mode=False
            )
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return INTERRUPTED
    except SystemExit as end:  # the reader of our output has gone
        return end.code if isinstance(end.code, int) else 1
    return code if isinstance(code, int) else 0


def _wrong_argument(error: Any) -> Refusal:
    """What typer tells in a box of several lines."""
    context = error.ctx
    if context is None:  # an option at the end of the line, without the value that it needs
        return Refusal(
            error.format_message().rstrip("."), allowed="an option with its value", cure="see --help of the verb"
        )
    path, group = context.command_path, getattr(context.command, "commands", None)
    told, allowed = error.format_message().rstrip("."), str(getattr(error, "message", "")).rstrip(".")
    if allowed and told.endswith(f": {allowed}"):  # of a value typer says what it should have been
        told = told.removesuffix(f": {allowed}") + _value_of(error)
        allowed = allowed.removeprefix("Input should be ").removeprefix("Value error, ")
    else:
        allowed = ", ".join(sorted(group)) if group else context.command.get_usage(context).removeprefix("Usage: ")
    return Refusal(
        told,
        allowed=allowed,
        cure=f"{path} {'VERB ' if group else ''}--help",
    )


def _value_of(error: Any) -> str:
    """What was given, if what checked it says so."""
    errors: Any = getattr(error.__cause__, "errors", None)
    return f" {errors()[0]['input']!r}" if errors is not None else ""
