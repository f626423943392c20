"""Pages from templates: each one HTML file with its style, script and pictures inside, readable without a network.

Templates lie in ``templates``, style sheets and scripts in ``static``, of this package and of any other that asks.
Everything a template is given is escaped; markup stands in templates alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from iscl_monai.durable import whole_file
from iscl_monai.report.numbers import fixed, significant, with_minus_signs
from iscl_monai.report.viewer import WINDOWS, filter_tables

HERE = "iscl_monai.report"
DISCLAIMER = "AI-processed, derived, not for primary diagnosis"


def render(template: str, *, package: str = HERE, **values: object) -> str:
    """A page, or a piece of one.

    Args:
        template: name of a file in ``templates``.
        package: whose templates and static files are looked at first; those of the report follow.
        values: what the template shows; text is escaped.

    Raises:
        jinja2.TemplateNotFound: if there is no such template.
        jinja2.UndefinedError: if the template wants a value that is not given.
    """
    return _environment(package).get_template(template).render(values)


def write_page(path: Path, template: str, page: object, *, package: str = HERE) -> Path:
    """Write one self-contained HTML file; it appears whole or not at all.

    Args:
        path: the file to write; missing folders are made.
        template: see :func:`render`.
        page: what it shows, as ``page``.
        package: see :func:`render`.

    Returns:
        ``path``.
    """
    text = render(template, package=package, page=page)
    with whole_file(Path(path)) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # file names may hold what is no text
    return Path(path)


@cache
def _environment(package: str) -> Environment:
    packages = (package, HERE) if package != HERE else (HERE,)
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(one) for one in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=fixed, significant=significant, with_minus_signs=with_minus_signs, px=_px, points=_points
    )
    environment.globals.update(
        disclaimer=DISCLAIMER,
        inline=lambda name: _static(name, packages),
        windows=WINDOWS,
        filter_tables=filter_tables,
    )
    return environment


def _static(name: str, packages: Iterable[str]) -> Markup:
    """A style sheet or script, to stand inside its element."""
    files = [resources.files(package) / "static" / name for package in packages]
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"{name} holds '</', which would end its element")
    return Markup(text)


def _px(value: float) -> str:
    """A place in a drawing."""
    return f"{value:.1f}"


def _points(line: Iterable[tuple[float, float]]) -> str:
    """Places in a drawing, as SVG lists them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
