"""Whether a peer answers: C-ECHO with all that its settings need of it, or a search by QIDO-RS for DICOMweb."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from iscl_monai.dicom.headers import CT_IMAGE_STORAGE
from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.sending.dicomweb import DicomWebClient
from iscl_monai.service.sending.dimse import DimseClient, UnreachableError, presentation_contexts
from iscl_monai.service.sending.find_series import FIND, MOVE
from iscl_monai.service.settings import Settings

ANSWERS_WITHIN_S = 15.0  # at most; the node's timeout if that is shorter


@dataclass(frozen=True)
class EchoAnswer:
    """How a peer has answered.

    Args:
        way: ``C-ECHO`` or ``QIDO-RS``.
        failure: why there is no answer; "" if there is one.
        milliseconds: until then.
        lacking: what the settings need of the peer, and it did not accept.
    """

    way: str
    failure: str
    milliseconds: int = 0
    lacking: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The answer in words."""
        if self.failure:
            return f"{self.way}: {self.failure}"
        lacking = f"; it does not accept {' and '.join(self.lacking)}" if self.lacking else ""
        return f"{self.way} answered in {self.milliseconds} ms{lacking}"


class EchoClient(Protocol):
    """Asks one peer."""

    def echo(self) -> EchoAnswer:
        """Ask now; every failure is an answer too."""
        ...

    def use(self, settings: Settings) -> None:
        """Ask from now on for what these settings, with other rules, need of the peer."""
        ...

    def abort(self) -> None:
        """End at once what another thread is doing here."""
        ...


def echo_client(settings: Settings, peer: Peer) -> EchoClient:
    """The client for a peer that has a port or a url."""
    return WebEcho(settings, peer) if peer.url is not None else DimseEcho(settings, peer)


class DimseEcho:
    """Opens an association with every SOP Class that the settings need, and sends a C-ECHO on it.

    Args:
        settings: of the node.
        peer: has a host and a port.
    """

    def __init__(self, settings: Settings, peer: Peer) -> None:
        self.peer = peer
        self.client = DimseClient(settings, peer)
        self.timeout_s = min(ANSWERS_WITHIN_S, settings.node.timeout_s)
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """See :class:`EchoClient`."""
        self.needed = dict(_needed_sop_classes(settings, self.peer))

    def echo(self) -> EchoAnswer:
        """See :class:`EchoClient`."""
        begun = time.monotonic()
        needed = self.needed  # a reload may put another one in its place
        contexts = presentation_contexts(needed)
        try:
            with self.client.association(contexts, response_timeout_s=self.timeout_s) as association:
                accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
                failure = _send_c_echo(association) if Verification in accepted else ""
        except (UnreachableError, ConfigRefusal) as error:
            return EchoAnswer("C-ECHO", str(error))
        lacking = tuple(name for sop_class, name in needed.items() if sop_class not in accepted)
        return EchoAnswer("C-ECHO", failure, round(1000 * (time.monotonic() - begun)), lacking)

    def abort(self) -> None:
        """See :class:`EchoClient`."""
        self.client.abort_all()


def _needed_sop_classes(settings: Settings, peer: Peer) -> Iterator[tuple[str, str]]:
    yield str(Verification), "Verification (C-ECHO)"
    if any(peer.name in rule.send_to for rule in settings.rules):
        yield str(CT_IMAGE_STORAGE), "CT Image Storage"
        if peer.confirm == "commitment":
            yield str(StorageCommitmentPushModel), "Storage Commitment"
    if peer.sweep:
        yield str(FIND), "Study Root FIND"
        yield str(MOVE), "Study Root MOVE"


def _send_c_echo(association: Association) -> str:
    """Why a C-ECHO was not answered with success; "" if it was."""
    try:
        status = association.send_c_echo().get("Status")
    except (RuntimeError, ValueError) as error:  # the association has ended meanwhile
        return str(error)
    if status is None:
        return "the association is accepted, and no answer comes"
    return "" if status == 0 else f"status 0x{status:04X}"


class WebEcho:
    """Searches for one study.

    Args:
        settings: of the node.
        peer: has a url.
    """

    def __init__(self, settings: Settings, peer: Peer) -> None:
        self.client = DicomWebClient(peer, min(ANSWERS_WITHIN_S, settings.node.timeout_s))

    def echo(self) -> EchoAnswer:
        """See :class:`EchoClient`."""
        begun = time.monotonic()
        query = {"params": {"limit": "1"}, "headers": {"Accept": "application/dicom+json"}}
        try:
            with self.client.request("GET", "/studies", **query) as response:
                code, kind = response.status_code, response.headers.get("Content-Type", "")
        except UnreachableError as error:
            return EchoAnswer("QIDO-RS", str(error))
        failure = ""
        if code not in (200, 204, 404):  # 404 from some servers that have no study
            failure = f"it answers {code}"
        elif code == 200 and "json" not in kind:
            failure = "its answer is no JSON: is the url the root of DICOMweb?"
        return EchoAnswer("QIDO-RS", failure, round(1000 * (time.monotonic() - begun)))

    def use(self, settings: Settings) -> None:
        """See :class:`EchoClient`; a search needs the same whatever the rules are."""

    def abort(self) -> None:
        """See :class:`EchoClient`; a request ends by itself, at the timeout."""
