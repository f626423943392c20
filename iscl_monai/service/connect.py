"""``iscl-monai serve --check --connect``: whether each peer and source answers, asked as the running node asks them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.sending.echo import echo_client
from iscl_monai.service.settings import Settings


def connect(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Ask every peer; in the order of the settings whether all is well, and a line about it.

    A peer without a port or url only calls us, and cannot be asked.
    """

    def ask(peer: Peer) -> tuple[bool, str]:
        if not peer.can_receive:
            return True, f"peer {peer.name}: only calls the node, and cannot be asked"
        answer = echo_client(settings, peer).echo()
        well = not answer.failure and not answer.lacking
        return well, f"peer {peer.name}: {'well' if well else 'NOT WELL'}; {answer.sentence}"

    with ThreadPoolExecutor(max(1, min(16, len(settings.peers)))) as threads:
        yield from threads.map(ask, settings.peers)
