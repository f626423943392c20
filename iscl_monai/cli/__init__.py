"""``iscl-monai VERB``: one module per verb, argument parsing only; everything else is the package's.

Other packages add verbs by the entry-point group ``iscl_monai.verbs``: those of ``data_prep`` come this way, which the
package must not import. A verb is a function for ``typer``.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer

from iscl_monai.cli.batch import batch
from iscl_monai.cli.benchmark import benchmark
from iscl_monai.cli.bundle import bundle
from iscl_monai.cli.card import card
from iscl_monai.cli.check_data import check_data
from iscl_monai.cli.denoise import denoise
from iscl_monai.cli.doctor import doctor
from iscl_monai.cli.evaluate import evaluate
from iscl_monai.cli.export import export
from iscl_monai.cli.folds import folds
from iscl_monai.cli.node import node
from iscl_monai.cli.qa import qa
from iscl_monai.cli.serve import serve, user
from iscl_monai.console import DISCLAIMER, add_version, run, with_exit_codes
from iscl_monai.spoken import Verb

__all__ = ["DISCLAIMER", "app", "main"]

app = typer.Typer(
    name="iscl-monai",
    help=f"Low-dose CT denoising, trained on your own unpaired scans. Results are {DISCLAIMER}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


add_version(app, "iscl-monai")
for verb in (denoise, batch, evaluate, benchmark, folds, qa, bundle, card, export, check_data, doctor):
    app.command(cls=Verb)(verb)
app.command()(serve)  # a node runs until it is stopped, and keeps a log
app.add_typer(user, name="user")
app.add_typer(node, name="node")
for entry in sorted(entry_points(group="iscl_monai.verbs"), key=lambda entry: entry.name):
    app.command(entry.name, cls=Verb)(with_exit_codes(entry.load()))


def main() -> None:
    """The entry point of ``iscl-monai``."""
    sys.exit(run(app))
