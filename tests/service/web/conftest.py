"""A node's pages, and people who may log in."""

from __future__ import annotations

from pathlib import Path

import pytest
from service.web.plant import PASSWORD, PEOPLE, Plant

from iscl_monai.service.database.store import now
from iscl_monai.service.database.tables import users
from iscl_monai.service.web import accounts


@pytest.fixture(scope="session")
def digest() -> str:
    """Of the one password; made once, for it takes long on purpose."""
    return accounts._digest(PASSWORD)


def add_people(plant: Plant, digest: str) -> Plant:
    with plant.store.writing() as change:
        for role in PEOPLE:
            row = {"name": role, "password": digest, "role": role, "created_at": now(), "sessions_since": now()}
            change.execute(users.insert().values(row))
    return plant


@pytest.fixture
def plant(tmp_path: Path, digest: str) -> Plant:
    return add_people(Plant(tmp_path), digest)
