"""One PACS and one tiny bundle for all tests of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from dicom.orthanc import Dicom, Orthanc, running
from inference.tiny import make_bundle


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """A node sets its log up itself; without that, structlog draws all variables of a fault, for many seconds."""
    structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real Orthanc with an open DICOM port; every test uses a study of its own."""
    with running(tmp_path_factory.mktemp("pacs"), Dicom()) as server:
        yield server


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is small and untrained, and changes every scan."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
