"""Pages of the site that are not written by hand: notebooks, and what every verb of the command line takes."""

from __future__ import annotations

import json
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def as_markdown(notebook: str) -> str:
    """A notebook as Markdown: its words, and its code without output.

    Args:
        notebook: the text of an ``.ipynb`` file.
    """
    cells = json.loads(notebook)["cells"]
    return "\n\n".join(_cell_as_markdown(cell["cell_type"], "".join(cell["source"])) for cell in cells)


def _cell_as_markdown(kind: str, text: str) -> str:
    if kind == "markdown":
        return text
    if text.startswith("!"):
        return f"```\n{text.removeprefix('!')}\n```"
    return f"```python\n{text}\n```"


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that it stands for."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the notebook."""
        super().parse(as_markdown(inputstring), document)


class VerbsDirective(SphinxDirective):
    """Every verb of ``iscl-monai``, as its ``--help`` tells."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Make a section of each verb."""
        lines = StringList(verbs_as_markdown().splitlines(), source="iscl_monai/cli")
        holder = nodes.section()
        holder.document = self.state.document
        self.state.nested_parse(lines, self.content_offset, holder, match_titles=True)
        return holder.children


def verbs_as_markdown() -> str:
    """What ``--help`` says of every verb, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from iscl_monai.cli import app

    command: Any = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="iscl-monai"), name="iscl-monai")


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_source_parser(NotebookParser)
    app.add_directive("verbs", VerbsDirective)
    app.connect("env-get-outdated", lambda *_: ["docs/reference/commands"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
