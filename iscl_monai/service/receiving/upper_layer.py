"""pynetdicom's DICOM upper layer, with limits: what comes is hostile until it has proved otherwise.

pynetdicom itself makes objects of whatever an A-ASSOCIATE-RQ holds, and lets its thread die of what it cannot decode.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider

from iscl_monai.service.log import log
from iscl_monai.service.receiving.limits import check_request
from iscl_monai.service.receiving.messages import SpoolingMessages
from iscl_monai.service.receiving.sockets import LimitedSocket

if TYPE_CHECKING:
    from pynetdicom.association import Association

LOOK_S = 0.05  # whether the connection has ended, while a primitive is waited for
WAIT_S = 0.01  # for something to come or to go, after which timers are looked at
ASSOCIATE_REQUEST = 1


class LimitedUpperLayer(DULServiceProvider):
    """Checks an A-ASSOCIATE-RQ before it is decoded, and ends in order whatever happens."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True

    @property
    def _run_loop_delay(self) -> float:
        """How long pynetdicom sleeps when there was nothing to do: 0, as this waits for something to do.

        With pynetdicom's thousand looks per second, twenty associations keep a processor busy.
        """
        outgoing = self.to_provider_queue
        if cast(SpoolingMessages, self.assoc.dimse).serving:  # the peer waits too
            with outgoing.not_empty:
                if not outgoing.queue:
                    outgoing.not_empty.wait(WAIT_S)
        elif self.socket is not None:
            cast(LimitedSocket, self.socket).wait()
        return 0.0

    @_run_loop_delay.setter
    def _run_loop_delay(self, _: float) -> None:
        """Pynetdicom sets a value of its own, which is not used."""

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        try:
            if bytestream[0] == ASSOCIATE_REQUEST:
                check_request(bytes(bytestream))
            return super()._decode_pdu(bytestream)
        except Exception:  # pynetdicom treats it as an invalid PDU, and aborts
            cast(LimitedSocket, self.socket).reads = False
            raise

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """The next primitive; a connection that has ended is not waited for."""
        until = time.monotonic() + timeout if timeout is not None else float("inf")
        arriving = self.to_user_queue
        while wait and arriving.empty() and self.is_alive() and time.monotonic() < until:
            with arriving.not_empty:
                if not arriving.queue:
                    arriving.not_empty.wait(min(LOOK_S, max(0.0, until - time.monotonic())))
        return super().receive_pdu(wait=False)

    def run_reactor(self) -> None:
        """The thread."""
        try:
            super().run_reactor()
        except Exception as error:  # an event that its table lacks, or a PDU that it cannot describe
            log.warning("association.fault", address=self.assoc.requestor.address, error=type(error).__name__)
            if self.socket is not None:
                self.socket.close()
