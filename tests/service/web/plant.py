"""A node without its worker and network: real settings, database, intake and files; jobs are worked by hand."""

from __future__ import annotations

import atexit
import hashlib
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dicom.derived import derivation
from dicom.synthetic import Series
from fastapi import FastAPI
from scipy.ndimage import uniform_filter
from service.rows import rows_of
from sqlalchemy import select

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.store import DATABASE, Store
from iscl_monai.service.database.tables import audit, deliveries, instances, job_sources, jobs, series
from iscl_monai.service.receiving.intake import Arrivals, Intake
from iscl_monai.service.sending.outbox import DerivedObject, add_deliveries
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space
from iscl_monai.service.web import accounts
from iscl_monai.service.web.app import create_app
from iscl_monai.service.web_settings import Web
from iscl_monai.service.working.queue import settle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer ones would rather have httpx2
    from starlette.testclient import TestClient

PASSWORD = "correct horse battery"
TOKEN = "token-of-a-scanner"
PEOPLE = ("viewer", "operator", "admin")  # their names are their roles
HOST = "http://testserver"


def settings_of(data: Path, **web: Any) -> Settings:
    values: dict[str, Any] = {
        "data": data,
        "bundle": data,
        "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "confirm": "status"}],
        "rules": [
            {"name": "derived", "process": False, "when": {"ImageType": ["DERIVED"]}},
            {
                "name": "thin-ct",
                "when": {"Modality": "CT", "SliceThickness": "<=5", "SeriesDescription": "!~^Topogram"},
                "send_to": ["pacs"],
                "strength": 0.8,
            },
            {"name": "rest", "when": {"Modality": "CT"}, "send_to": ["pacs"], "priority": "later"},
        ],
        "disk": {"reserve_mb": 1, "resume_mb": 1},
        "web": {
            "clients": [{"name": "scanner", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}],
            **web,
        },
    }
    return Settings.model_validate(values)


@lru_cache(maxsize=1)
def _empty_database() -> Path:
    """Migrated once for all tests."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrate(folder)
    return folder / DATABASE


@dataclass
class Plant:
    """The parts that the pages look at.

    Args:
        folder: for the data.
        web: settings of the pages.
    """

    folder: Path
    web: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.settings = settings_of(data, **self.web)
        shutil.copyfile(_empty_database(), data / DATABASE)
        self.store = Store(data)
        self.space = Space(data, self.settings.disk)
        self.intake = Intake(self.store, self.settings, self.space, Arrivals(time.monotonic))
        self.parts: dict[str, tuple[bool, str]] = {"worker": (True, "model loaded"), "loops": (True, "3 faults")}
        self.app = self.application()

    def application(self) -> FastAPI:
        """Made anew, after the settings were changed."""
        return create_app(self.settings, self.store, self.intake, lambda: self.parts)

    def with_web(self, **web: Any) -> Plant:
        """The same with other settings of the pages."""
        values = {**self.settings.web.model_dump(), **web}
        self.settings = self.settings.model_copy(update={"web": Web.model_validate(values)})
        self.app = self.application()
        return self

    def add_people(self) -> None:
        for role in PEOPLE:
            accounts.add_user(self.store, role, PASSWORD, role, actor="test")

    def client(self, role: str = "") -> TestClient:
        """A browser, of somebody who is logged in if a role is given; the session is made without the form."""
        client = TestClient(self.app, base_url=HOST, follow_redirects=False)
        client.headers["accept"] = "text/html"
        if role:
            user = accounts.find(self.store, role)
            assert user is not None
            cookie = self.app.state.site.sessions.begin(user.name, user.role, user.sessions_since)
            client.cookies.set("iscl_session", cookie)
        return client

    def send(self, files: Sequence[Path], sender: str = "CT") -> int:
        """What a scanner sends; the id of its series."""
        for file in files:
            part = self.intake.new_part()
            shutil.copyfile(file, part)
            verdict = self.intake.accept(part, sender)
            assert verdict.taken, verdict
        uid = read_header(files[0]).series_uid
        (row,) = rows_of(self.store, select(series.c.id).where(series.c.series_uid == uid))
        return int(row["id"])

    def synthetic(self, **values: Any) -> int:
        """A small series that has come in."""
        place = self.folder / f"scan-{secrets.token_hex(4)}"
        return self.send(Series(**{"rows": 16, "columns": 16, **values}).write(place))

    def settled(self, series_id: int) -> int:
        """Its job."""
        with self.store.writing() as change:
            job = settle(change, self.settings, series_id)
        assert job is not None
        return job

    def move_job(self, job_id: int, *states: str, **values: Any) -> None:
        with self.store.writing() as change:
            for state in states[:-1]:
                change.move(jobs, job_id, state)
            change.move(jobs, job_id, states[-1], **values)

    def worked(
        self,
        job_id: int,
        smooth: Callable[[Any], Any] | None = None,
        seconds: float = 12.5,
        *,
        state: str = "sending",
        reason: str = "",
    ) -> None:
        """What the worker does: derived files, deliveries, result."""
        made = self.derive(job_id, smooth or (lambda hu: uniform_filter(hu, 3)))
        self.move_job(job_id, "running")
        folder = str(Path(made[0].file).parent)
        with self.store.writing() as change:
            change.move(
                jobs,
                job_id,
                state,
                reason=reason,
                folder=folder,
                claim=folder.split("/")[2],
                result=result(made, seconds),
                moment="2026-11-22T20:30:05+00:00",
            )
            add_deliveries(change, job_id, made, ["pacs"])

    def derive(self, job_id: int, smooth: Callable[[Any], Any]) -> list[DerivedObject]:
        folder = self.store.data / "jobs" / str(job_id) / secrets.token_hex(4) / "derived"
        folder.mkdir(parents=True)
        wanted = (
            select(instances.c.file)
            .join(job_sources, job_sources.c.instance_id == instances.c.id)
            .where(job_sources.c.job_id == job_id)
        )
        paths = [self.store.data / row["file"] for row in rows_of(self.store, wanted)]
        with without_warnings():
            if read_header(paths[0]).sop_class in MULTIFRAME_CT:
                made = [_derive_frames(path, folder, number, smooth) for number, path in enumerate(paths, 1)]
            else:
                made = _derive_slices([read_header(path) for path in paths], folder, smooth)
        return [_derived(path, self.store.data) for path in made]

    def delivered(self, job_id: int) -> None:
        """All of it."""
        with self.store.writing() as change:
            for row in change.execute(select(deliveries.c.id).where(deliveries.c.job_id == job_id)).scalars().all():
                change.move(deliveries, row, "sent")
                change.move(deliveries, row, "confirmed", proof="status")
            change.move(jobs, job_id, "done")

    def done(self, series_id: int) -> int:
        job = self.settled(series_id)
        self.worked(job)
        self.delivered(job)
        return job

    def job(self, job_id: int) -> Mapping[str, Any]:
        return rows_of(self.store, select(jobs).where(jobs.c.id == job_id))[0]

    def audited(self) -> list[tuple[str, str, str]]:
        return [(row["who"], row["action"], row["object"]) for row in rows_of(self.store, select(audit))]


def _derive_slices(headers: Sequence[SliceHeader], folder: Path, smooth: Callable[[Any], Any]) -> list[Path]:
    writer = SeriesWriter(headers, derivation(), folder)
    made = []
    for index, header in enumerate(headers):
        slice_, dataset = load_slice(header)
        change = smooth(slice_.hu()).astype(np.float64) - slice_.hu()
        made.append(writer.write(index, dataset, slice_.changed(change)))
    return made


def _derive_frames(path: Path, folder: Path, number: int, smooth: Callable[[Any], Any]) -> Path:
    image = open_enhanced(path)
    with EnhancedWriter(image, derivation(), folder, number=number) as writer:
        for index, slice_ in enumerate(image.slices()):
            change = smooth(slice_.hu()).astype(np.float64) - slice_.hu()
            writer.write(index, slice_.changed(change))
        return writer.finish()


def _derived(path: Path, data: Path) -> DerivedObject:
    new = read_header(path)
    return DerivedObject(
        new.sop_instance_uid, new.sop_class, new.series_uid, new.study_uid, str(path.relative_to(data))
    )


def result(made: Sequence[DerivedObject], seconds: float) -> dict[str, Any]:
    return {
        "slices": len(made),
        "skipped": [{"reason": "a localizer", "count": 2}],
        "derived_series_uids": sorted({one.series_uid for one in made}),
        "model": "ISCL",
        "version": "1.2",
        "weights_digest": "0123456789abcdef" * 4,
        "parameters": {"mode": "ensemble", "strength": "0.8"},
        "software": "0.1",
        "device": "cpu",
        "seconds": seconds,
        "regions": [
            {
                "region": "soft tissue",
                "noise_before_hu": 21.34,
                "noise_after_hu": 9.06,
                "mean_before_hu": 41.2,
                "mean_after_hu": 41.17,
                "pixels": 81234,
            }
        ],
    }


def csrf(client: TestClient) -> str:
    """As our own pages give it."""
    found = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
    assert found is not None
    return found[1]


def post(client: TestClient, path: str, **form: Any) -> Any:
    """As a form of our own pages does."""
    return client.post(path, data={"csrf": csrf(client), **form}, headers={"origin": HOST})
