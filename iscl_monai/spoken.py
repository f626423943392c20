"""How a verb answers: for people, quietly, in more words, or as one JSON object for programs.

Every verb of class :class:`Verb` takes ``--json``, ``--quiet`` and ``--verbose``. The JSON object has one shape:
``verb``, ``exit_code``, ``refusal`` (kind, came, allowed, cure; or null), ``result`` (what the verb has to tell a
program, may be empty), and ``lines`` (what people would have read).
"""

import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from iscl_monai.errors import Refusal

if TYPE_CHECKING:
    from rich.console import Console

FAULT = 1


@dataclass
class Answer:
    """What one verb says, and how.

    Args:
        as_json: for programs.
        quiet: only what went wrong.
        verbose: with the log, and the traceback of a fault.
        refusal: what the verb ended with.
        result: for programs.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    refusal: Refusal | None = None
    result: dict[str, Any] = field(default_factory=dict)


answer = Answer()
"""Of the verb that runs in this process."""


def tell_program(**result: Any) -> None:
    """Add to the ``result`` of ``--json``; plain data without NaN."""
    answer.result.update(result)


def tell_fault(trace: str) -> None:
    """With ``--verbose``, the traceback of a fault; else it stands in the log alone."""
    if answer.verbose:
        typer.echo(trace, err=True)


def progress_console() -> "Console":
    """Where bars of progress are drawn: on stderr, and with ``--quiet`` nowhere."""
    from rich.console import Console

    return Console(stderr=True, quiet=answer.quiet)


def progress_disabled() -> bool | None:
    """``disable`` of a ``tqdm``: with ``--quiet`` yes, else where nobody looks."""
    return True if answer.quiet else None


class Verb(TyperCommand):
    """A verb with the three options."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += _common_options()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, for a new answer."""
        global answer
        answer = Answer()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, and print its answer."""
        if answer.verbose:
            logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
        with _answering(str(ctx.info_name)):
            return super().invoke(ctx)


@contextmanager
def _answering(verb: str) -> Iterator[None]:
    if not (answer.as_json or answer.quiet):
        yield
        return
    held, code = io.StringIO(), FAULT
    try:
        with redirect_stdout(held):
            yield
        code = 0
    except typer.Exit as end:
        code = end.exit_code
        raise
    finally:
        if answer.as_json:
            typer.echo(json.dumps(_content(verb, code, held.getvalue()), indent=2, allow_nan=False, default=str))


def _content(verb: str, code: int, text: str) -> Mapping[str, Any]:
    refused = answer.refusal
    return {
        "verb": verb,
        "exit_code": code,
        "refusal": refused
        and {
            "kind": type(refused).__name__,
            "came": refused.came,
            "allowed": refused.allowed,
            "cure": refused.cure,
        },
        "result": _finite(answer.result),
        "lines": text.splitlines(),
    }


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: they are null."""
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _common_options() -> list[Any]:
    """The three options, made by typer itself: how an option is built differs from one typer to the next."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def options(
        as_json: Annotated[
            bool,
            typer.Option(
                "--json", callback=_switch("as_json"), help="Answer in JSON: verb, exit_code, refusal, result, lines."
            ),
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", callback=_switch("quiet"), help="Say only what went wrong.")
        ] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", callback=_switch("verbose"), help="Say more, on stderr.")
        ] = False,
    ) -> None: ...

    made = list(typer.main.get_command(donor).params)
    for option in made:
        option.expose_value = False
    return made


def _switch(attribute: str) -> Callable[[bool], None]:
    def switch(value: bool) -> None:
        if value:
            setattr(answer, attribute, True)

    return switch
