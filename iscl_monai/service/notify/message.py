"""What people are told, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iscl_monai.service.notify.notices import Batch, Notice

TEST = "Nothing needs anybody; somebody wanted to know whether messages arrive."
MOST_LISTED = 20  # of each kind; the others are counted


@dataclass(frozen=True)
class Message:
    """One message.

    Args:
        node: AE title of the node.
        batch: what it is about.
        page_url: address of the node's pages; None if the settings have none.
        is_test: it only shows that messages arrive.
    """

    node: str
    batch: Batch
    page_url: str | None = None
    is_test: bool = False

    @property
    def subject(self) -> str:
        """One line."""
        if self.is_test:
            return f"{self.node}: test message"
        opened, resolved = len(self.batch.opened), len(self.batch.resolved)
        counts = [f"{opened} need a person" if opened != 1 else "1 needs a person"] if opened else []
        return f"{self.node}: {', '.join([*counts, *([f'{resolved} resolved'] if resolved else [])])}"

    @property
    def text(self) -> str:
        """All of it."""
        test = [TEST] if self.is_test else []
        lines = [*test, *_section("Needs a person", self.batch.opened), *_section("Resolved", self.batch.resolved)]
        return "\n".join([self.subject, *lines, *([f"Pages: {self.page_url}"] if self.page_url else [])])

    def as_json(self) -> dict[str, Any]:
        """For a webhook; chat servers show ``text``."""
        return {
            "node": self.node,
            "test": self.is_test,
            "text": self.text,
            "opened": [_as_json(one) for one in self.batch.opened[:MOST_LISTED]],
            "resolved": [_as_json(one) for one in self.batch.resolved[:MOST_LISTED]],
        }


def _section(title: str, listed: tuple[Notice, ...]) -> Iterator[str]:
    if listed:
        yield f"{title}:"
        for one in listed[:MOST_LISTED]:
            until = f" until {_minute(one.resolved_at)}" if one.resolved_at else ""
            yield f"- {one.sentence} (since {_minute(one.opened_at)}{until} UTC)"
        if len(listed) > MOST_LISTED:
            yield f"- and {len(listed) - MOST_LISTED} more"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _as_json(one: Notice) -> dict[str, str]:
    return {"cause": one.cause, "sentence": one.sentence, "since": one.opened_at, "until": one.resolved_at}
