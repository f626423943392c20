"""``iscl-monai doctor``: argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import exit_codes, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.spoken import tell_program


def doctor(
    bundle: Annotated[Path | None, typer.Option(help="Bundle to look at.", show_default=False)] = None,
) -> None:
    """Say what this installation can do: versions, extras, decoders, processor, memory, GPU, bundle and its weights.

    Made to be pasted into a bug report: it holds nothing about patients, and no name of who is logged in. `!` marks
    what is needed and broken (exit code 1), `-` what is optional and absent, `->` what to do about it.

    Examples:
        iscl-monai doctor

        iscl-monai doctor --json --bundle bundles/iscl
    """
    with exit_codes():
        from iscl_monai.doctor import diagnose

        try:
            bundle = found_bundle(bundle)
        except ConfigRefusal:  # it need not stand in the repository
            bundle = None
        diagnosis = diagnose(bundle)
        tell_program(**diagnosis.to_json())
        for line in diagnosis.lines():
            say(line)
        if diagnosis.problems:
            raise typer.Exit(1)
