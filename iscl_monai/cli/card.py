"""``iscl-monai card``: what the weights are, what they were measured on, and where not to use them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import exit_codes, say
from iscl_monai.errors import ConfigRefusal

CARD = Path("docs") / "README.md"


def card(
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose card to show.", show_default=False)] = None,
) -> None:
    """Show the model card: intended use, training data, results with intervals, failures, where not to use it.

    Example:
        iscl-monai card | less
    """
    with exit_codes():
        path = found_bundle(bundle) / CARD
        if not path.is_file():
            raise ConfigRefusal(
                f"{path} does not exist", allowed="a bundle with its documents", cure="copy the bundle whole"
            )
        text = path.read_text(encoding="utf-8")
        if not sys.stdout.isatty():
            for line in text.splitlines():
                say(line)
            return
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
