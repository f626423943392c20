"""A store with series in it, for tests that need no network."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicom.synthetic import Series
from sqlalchemy import Executable

from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.store import Store
from iscl_monai.service.receiving.intake import Arrivals, Intake
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space


def settings_for(data: Path, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "data": data,
        "bundle": data,
        "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
        "rules": [
            {"name": "derived", "process": False, "when": {"ImageType": "DERIVED"}},
            {"name": "all", "when": {"Modality": "CT"}, "send_to": ["pacs"], "quiet_s": 10},
        ],
        "disk": {"reserve_mb": 1, "resume_mb": 1},
    }
    return Settings.model_validate({**values, **more})


def new_uid() -> str:
    """Shorter than pydicom's, so that something can be appended."""
    return f"2.25.{uuid.uuid4().int}"


def rows_of(store: Store, statement: Executable) -> list[dict[str, Any]]:
    """All rows of a statement, by the names of their columns."""
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


class Clock:
    """Shows what it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A data folder with everything that takes objects."""

    def __init__(self, data: Path, **more: Any) -> None:
        data.mkdir(exist_ok=True)
        migrate(data)
        self.settings = settings_for(data, **more)
        self.store = Store(data)
        self.clock = Clock()
        self.arrivals = Arrivals(self.clock)
        self.space = Space(data, self.settings.disk)
        self.intake = Intake(self.store, self.settings, self.space, self.arrivals)

    def take(self, files: Sequence[Path], sender: str = "CT") -> list[str]:
        """What became of each."""
        kinds = []
        for file in files:
            part = self.intake.new_part()
            shutil.copyfile(file, part)
            kinds.append(self.intake.accept(part, sender).kind)
        return kinds


def scan(
    folder: Path, count: int = 3, *, first: int = 0, uids: tuple[str, str] | None = None, **more: Any
) -> list[Path]:
    """A small series."""
    study, series = uids or (new_uid(), new_uid())
    slots = range(first, first + count)
    values = {"slots": slots, "rows": 32, "columns": 32, "prefix": f"s{first}_", **more}
    return Series(study_uid=study, series_uid=series, **values).write(folder)
