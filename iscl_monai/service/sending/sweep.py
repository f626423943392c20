"""The safety net: original series that a peer has, and that never came, are retrieved.

An archive that sends while we are down often does not try again; without this such a series would be missed silently.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

from iscl_monai.service.database.store import Store
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.loop import Loop, stop_all
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.sending.dicomweb import DicomWebClient
from iscl_monai.service.sending.dimse import DimseClient
from iscl_monai.service.sending.find_series import DimseFinder, Finder, WebFinder
from iscl_monai.service.sending.peer_sweep import PeerSweep
from iscl_monai.service.settings import Settings

END_S = 3.0  # for what is nearly done when the node stops


class Sweep:
    """Searches all peers that are to be swept: a thread for each, so that a slow one holds up no other.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects that are pulled by WADO-RS.
        clock: monotonic, in seconds.
        today: the date here, which Study Date is compared with.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        intake: Intake,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], date] = date.today,
    ) -> None:
        self.peers = {
            peer.name: PeerSweep(settings, store, intake, peer, _finder(settings, peer, intake), clock, today)
            for peer in settings.peers
            if peer.sweep and peer.can_receive
        }

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread, for the health check."""
        return tuple(one.loop for one in self.peers.values())

    def start(self) -> None:
        """Begin."""
        for loop in self.loops:
            loop.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; a retrieval that goes on is cut off. Whether all threads have ended in time."""
        cut_off = [(one.loop, one.finder.abort) for one in self.peers.values()]
        return stop_all(cut_off, orderly_s=END_S, timeout_s=timeout_s)


def _finder(settings: Settings, peer: Peer, intake: Intake) -> Finder:
    if peer.url is not None:
        return WebFinder(DicomWebClient(peer, settings.node.timeout_s), intake)
    return DimseFinder(DimseClient(settings, peer), settings.node.ae_title)
