"""Reports that come on an association of ours while we send or release on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from service.peers import House, Pacs, peer, report, tell

from iscl_monai.service.sending.commitment import action_information
from iscl_monai.service.sending.dimse import DimseClient

Serve = Callable[[evt.Event], tuple[int, None]]
AT_ONCE_S = 5.0
"""Nothing here waits for anybody; a wait for a thread that is said to run ends with the network's 30 s."""


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with Pacs(commit=lambda information, association, pacs: 0).running() as one:
        yield one


@pytest.fixture
def client(tmp_path: Path, pacs: Pacs) -> DimseClient:
    home = House(tmp_path / "data", peer(port=pacs.port))
    return DimseClient(home.settings, home.settings.peers[0])


def opened(client: DimseClient, serve: Serve) -> Any:
    return client.open([build_context(StorageCommitmentPushModel)], [(evt.EVT_N_EVENT_REPORT, serve)])


def ask(association: Any) -> int:
    """The status of a request for a commitment to nothing."""
    status, _ = association.send_n_action(
        action_information("1.2.3", []), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def test_a_peer_may_report_before_it_answers_the_request(client: DimseClient, pacs: Pacs) -> None:
    statuses: list[int] = []

    def before(information: Dataset, association: Any, pacs: Pacs) -> int:
        answer, _ = association.send_n_event_report(
            report(information), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        statuses.append(answer.Status)
        return 0

    pacs.commit = before
    association = opened(client, lambda event: (0, None))
    try:
        assert [ask(association) for _ in range(3)] == [0, 0, 0]
    finally:
        client.close(association)
    assert statuses == [0, 0, 0]


def test_a_report_is_served_while_nothing_is_sent(client: DimseClient, pacs: Pacs) -> None:
    pacs.commit = lambda information, association, pacs: tell(report(information), association) or 0
    came, threads = threading.Event(), []

    def serve(event: evt.Event) -> tuple[int, None]:
        threads.append(threading.current_thread())
        came.set()
        return 0, None

    association = opened(client, serve)
    try:
        assert ask(association) == 0
        assert came.wait(AT_ONCE_S)
    finally:
        client.close(association)
    assert threads[0] in (association, threading.current_thread())  # the latter while it waits for the answer


def test_an_association_is_released_while_its_last_report_is_served(client: DimseClient, pacs: Pacs) -> None:
    pacs.commit = lambda information, association, pacs: tell(report(information), association) or 0
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    longest = 0.0
    try:
        for _ in range(40):
            came = threading.Event()

            def serve(event: evt.Event, came: threading.Event = came) -> tuple[int, None]:
                came.set()
                return 0, None

            association = opened(client, serve)
            assert ask(association) == 0
            assert came.wait(AT_ONCE_S)
            begun = time.monotonic()
            client.close(association)
            longest = max(longest, time.monotonic() - begun)
    finally:
        sys.setswitchinterval(often)
    assert longest < AT_ONCE_S
