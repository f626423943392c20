"""Settings of the DICOM side: the node's application entity, and its peers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from iscl_monai.service.rules import Name, Port, Seconds, Strict


def _ae_title(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?", value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2)")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]


class TLS(Strict):
    """Certificate of the node, and the authority that signs those of its peers.

    Args:
        certificate: PEM file of the node's certificate, with its chain.
        key: PEM file of its private key.
        ca: PEM file of the authorities whose client certificates are accepted; one is always required.
    """

    certificate: Path
    key: Path
    ca: Path


class Node(Strict):
    """The node's application entity, and its limits.

    Args:
        ae_title: of the node; associations that call another one are rejected.
        host: address to listen on.
        port: for DICOM; TLS only if ``tls`` is given.
        tls: see :class:`TLS`.
        max_associations: at the same time; more are rejected as a temporary congestion.
        max_pdu_bytes: the longest P-DATA-TF we take, as negotiated with peers; a longer one ends the association.
        max_object_mb: the largest object; a larger one is refused, and never kept in memory.
        timeout_s: of silence on an association.
    """

    ae_title: AETitle = "ISCL"
    host: str = "0.0.0.0"
    port: Port = 11112
    tls: TLS | None = None
    max_associations: int = Field(default=25, ge=1, le=500)
    max_pdu_bytes: int = Field(default=131072, ge=4096, le=2**24)
    max_object_mb: int = Field(default=1024, ge=1)
    timeout_s: Seconds = 60


class Peer(Strict):
    """A system that the node exchanges objects with, by DIMSE (``ae_title``, ``host``, ``port``) or DICOMweb (``url``).

    Args:
        name: what rules and pages call it.
        ae_title: of a DIMSE peer.
        host: name or address it listens on.
        port: it listens on; without it nothing can be sent there.
        tls: connect by TLS, with the node's certificate.
        may_send: its associations are accepted.
        from_hosts: addresses, networks (``10.1.0.0/16``) or names it may call from; default: what ``host`` resolves to.
        url: root of a DICOMweb server, e.g. ``https://pacs/dicom-web``; no user and password in it.
        token_file: file with a bearer token for it.
        ca: PEM file of the authority of its certificate; default: the system's.
        confirm: what proves a delivery: ``commitment`` (storage commitment, DIMSE only), ``query`` (it finds the
            object, DICOMweb only) or ``status`` (it answered success; for peers that can neither).
        commitment_timeout_s: after which it is requested again.
        sweep: search it for original series that lack their derived one, and retrieve them.
        sweep_days: how far back, by Study Date.
    """

    name: Name
    ae_title: AETitle | None = None
    host: str | None = None
    port: Port | None = None
    tls: bool = False
    may_send: bool = True
    from_hosts: tuple[str, ...] = ()
    url: str | None = Field(default=None, pattern=r"^https?://[^\s@]+[^/\s@]$")
    token_file: Path | None = None
    ca: Path | None = None
    confirm: Literal["commitment", "query", "status"] = "commitment"
    commitment_timeout_s: Seconds = 600
    sweep: bool = False
    sweep_days: int = Field(default=3, ge=1, le=365)

    @model_validator(mode="after")
    def _one_kind(self) -> Peer:
        if (self.url is None) == (self.ae_title is None):
            raise ValueError("a peer has either an ae_title (DIMSE) or a url (DICOMweb)")
        if self.url is None and (self.host is None) != (self.port is None):
            raise ValueError("host and port belong together")
        if self.url is None and self.may_send and self.host is None and not self.from_hosts:
            raise ValueError("from where may it send? Give host and port, or from_hosts, or may_send = false")
        if self.confirm == "commitment" and self.url is not None:
            raise ValueError('DICOMweb has no storage commitment here: confirm = "query" or "status"')
        if self.confirm == "query" and self.url is None:
            raise ValueError('a query proves deliveries by DICOMweb only: confirm = "commitment" or "status"')
        return self

    @property
    def can_receive(self) -> bool:
        """Whether derived series can be sent there."""
        return self.url is not None or self.port is not None
