"""What a person searches the queue for, and the address of the page that shows it.

A patient's number never stands in an address: browsers and proxies keep those. Its digest does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, or_

from iscl_monai.service.database.tables import series

LONGEST_TEXT = 64
TEXT_TAGS = ("SeriesDescription", "StudyDescription", "ProtocolName")


@dataclass(frozen=True)
class Search:
    """A search; empty fields are not looked at.

    Args:
        text: in one of the descriptions, whatever case; or a whole Study or Series Instance UID.
        since: first Study Date, YYYY-MM-DD.
        until: last Study Date.
        number: digest of a Patient ID or Accession Number (:class:`iscl_monai.service.search_keys.SearchKeys`).
    """

    text: str = ""
    since: str = ""
    until: str = ""
    number: str = ""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Search:
        """From the address of a page, or a form; what has no sense is left out."""
        number = values.get("number", "")
        return cls(
            " ".join(values.get("text", "").split())[:LONGEST_TEXT],
            _day(values.get("since", "")),
            _day(values.get("until", "")),
            number if re.fullmatch(r"[0-9a-f]{64}", number) else "",
        )

    def __bool__(self) -> bool:
        """Whether anything is searched for."""
        return any(asdict(self).values())

    @property
    def query(self) -> str:
        """For an address, with ``&`` at its end; "" for an empty search."""
        filled = {name: value for name, value in asdict(self).items() if value}
        return f"{urlencode(filled)}&" if filled else ""

    def condition(self) -> ColumnElement[bool]:
        """For rows of ``series``."""
        found: ColumnElement[bool] = series.c.id > 0
        if self.number:
            found &= or_(series.c.patient_key == self.number, series.c.accession_key == self.number)
        if self.since:
            found &= series.c.study_date >= self.since.replace("-", "")
        if self.until:
            found &= (series.c.study_date <= self.until.replace("-", "")) & (series.c.study_date != "")
        if self.text:
            pattern = "%" + re.sub(r"([%_\\])", r"\\\1", self.text) + "%"
            described = [series.c.tags[tag].as_string().ilike(pattern, escape="\\") for tag in TEXT_TAGS]
            found &= or_(*described, series.c.study_uid == self.text, series.c.series_uid == self.text)
        return found


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if len(text) == 10 else ""
    except ValueError:
        return ""
