"""One PACS and one tiny bundle for all tests of the node."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import Dicom, Orthanc, running
from inference.tiny import make_bundle


@pytest.fixture(scope="session", autouse=True)
def one_context_for_tls() -> Iterator[None]:
    """The authorities of the system are read once, not for every request to a DICOMweb server: 50 ms each time."""
    create, kept = ssl.create_default_context, ssl.create_default_context()

    def once(*purpose: Any, cafile: str | None = None, **more: Any) -> ssl.SSLContext:
        return create(*purpose, cafile=cafile, **more) if purpose or cafile or more else kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", once)
        yield


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real Orthanc with an open DICOM port; every test uses a study of its own."""
    with running(tmp_path_factory.mktemp("pacs"), Dicom()) as server:
        yield server


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is small and untrained, and changes every scan."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
