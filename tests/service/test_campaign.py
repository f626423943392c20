"""Two kills of the campaign that ``benchmarks/node_kills.py`` runs at length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom.orthanc import Dicom, Orthanc, running
from service.campaign import Campaign, Figures


@pytest.fixture
def own_pacs(tmp_path: Path) -> Iterator[Orthanc]:
    """One that has nothing else, as all it has is compared, and that may be halted."""
    (tmp_path / "pacs").mkdir()
    with running(tmp_path / "pacs", Dicom()) as server:
        yield server


def test_nothing_that_was_acknowledged_is_lost_or_twice(own_pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, bundle, own_pacs, seed=5, own_disk=False, longest_backlog=3)
    figures = campaign.run(kills=2, episode_every=0)
    assert figures.kills == 2
    assert figures.acknowledged > 0
    assert figures.held, figures.table()


@pytest.mark.parametrize(
    "wrong", [{"lost": 1, "derived": 2}, {"twice": 1}, {"leftovers": 1}, {"derived": 2}], ids=lambda wrong: min(wrong)
)
def test_figures_that_are_not_right_do_not_hold(wrong: dict[str, int]) -> None:
    assert Figures(acknowledged=3, derived=3).held
    assert not Figures(**{"acknowledged": 3, "derived": 3, **wrong}).held
