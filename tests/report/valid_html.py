"""What every page must be: well formed, of unique ids, and complete in itself."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from iscl_monai.report.numbers import fixed

VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
IN_HEAD = frozenset(("meta", "title", "style", "link", "base"))


class Elements(HTMLParser):
    """Reads a page and fails where it is not valid.

    Attributes:
        tags: of all elements, in order.
        texts: of all elements that hold text, with the tag they stand in.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._ids: set[str] = set()
        self._linked: set[str] = set()
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        assert self._linked <= self._ids, f"links to nowhere: {self._linked - self._ids}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in {tag}"
        assert tag not in IN_HEAD or self._open[-1] == "head", f"{tag} in {self._open[-1]}"
        if "id" in attributes:
            assert attributes["id"] not in self._ids, f"id {attributes['id']} twice"
            self._ids.add(str(attributes["id"]))
        if tag == "img":
            assert "alt" in attributes
        if str(attributes.get("href", "")).startswith("#"):
            self._linked.add(str(attributes.pop("href"))[1:])
        for name in ("src", "href"):
            assert str(attributes.get(name, "data:image/png;base64,")).startswith("data:image/png;base64,")
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, f"<{tag}/> outside of a drawing"
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID, f"</{tag}>"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip()))


def check_numbers(text: str, rows: Sequence[dict[str, Any]]) -> None:
    """The tables of a page's cases hold these rows of the JSON beside it, in this order, under the same names.

    Args:
        text: of the page.
        rows: of all cases.
    """
    found = re.findall(r'<tr><th scope="row">([^<]*)</th><td[^>]*>([^<]*)</td><td[^>]*><strong>([^<]*)</strong>', text)
    assert [html.unescape(name) for name, *_ in found] == [row["name"] for row in rows]
    for (name, *cells), row in zip(found, rows, strict=True):
        for cell, number in zip(cells, (row["noisy"], row["denoised"]), strict=True):
            digits = len(cell.partition(".")[2])
            absent = cell in ("\N{EN DASH}", "not measurable", "\N{INFINITY} (exact)")
            assert absent if number is None else cell == fixed(number, digits), name


def check_page(text: str, *, scripts: int = 0) -> Elements:
    """A whole page: valid, without addresses of other places, and with no script but our own.

    Args:
        text: of the file.
        scripts: how many it should have.
    """
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    elements = Elements(text)
    assert elements.tags.count("h1") == elements.tags.count("title") == elements.tags.count("style") == 1
    assert elements.tags.count("script") == scripts
    assert not {"iframe", "object", "embed", "link"} & set(elements.tags)
    return elements
