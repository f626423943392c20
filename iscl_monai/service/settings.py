"""What an administrator decides: one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from iscl_monai.service.rules import Name, Rule, Seconds, Strict


def _ae_title(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?", value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2)")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class TLS(Strict):
    """Certificate of the node, and the authority that signs those of its peers.

    Args:
        certificate: PEM file of the node's certificate, with its chain.
        key: PEM file of its private key.
        ca: PEM file of the authorities whose client certificates are accepted; one is always asked for.
    """

    certificate: Path
    key: Path
    ca: Path


class Node(Strict):
    """The DICOM side: who we are and how much we take at once.

    Args:
        ae_title: of the node; associations that call another one are rejected.
        host: address to listen on.
        port: for DICOM; TLS only if ``tls`` is given.
        tls: see :class:`TLS`.
        max_associations: at the same time; more are rejected as a temporary congestion.
        max_pdu_bytes: the longest P-DATA we take, told to peers; a longer one ends the association.
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
    """Somebody we speak with, by DIMSE (``ae_title``, ``host``, ``port``) or DICOMweb (``url``).

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
        commitment_timeout_s: after which we ask again.
        sweep: look for original series there that lack their derived one, and ask for them.
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


class Disk(Strict):
    """When to stop taking: before the disk is full, so that what was taken can be finished.

    Args:
        reserve_mb: space that must stay free for derived files, the database and the operating system. An object
            that would go below it is refused with 0xA700 (507 for STOW-RS).
        resume_mb: after that, this much must be free again before anything is taken.
    """

    reserve_mb: int = Field(default=2048, ge=1)
    resume_mb: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Disk:
        if self.resume_mb < self.reserve_mb:
            raise ValueError("resume_mb is less than reserve_mb")
        return self


class Retention(Strict):
    """How long files stay. Rows stay for ever, so that a repeat is recognised.

    Args:
        done_h: hours after a series is done (all derived objects confirmed), or left alone by the rules.
        unfinished_h: hours after it was refused, failed or cancelled; 0 keeps these until somebody acts.
        promised_h: hours that objects stay at least for which a peer was promised storage commitment: it may delete
            its own, and the node is no archive.
    """

    done_h: float = Field(default=24, ge=0)
    unfinished_h: float = Field(default=0, ge=0)
    promised_h: float = Field(default=720, ge=0)


class Work(Strict):
    """The denoiser.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        mode: ``ensemble``, ``generator`` or ``extractor``.
        batch: slices a GPU takes at once, of whichever series wait; halved when its memory is too small.
        series_at_once: how many series share the model; on a CPU always one.
        threads: slices worked on at the same time on a CPU; 0: one per core.
        attempts: a series whose worker has died so often is failed: it may be what kills it.
    """

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    mode: Literal["ensemble", "generator", "extractor"] = "ensemble"
    batch: int = Field(default=8, ge=1, le=256)
    series_at_once: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=0, ge=0)
    attempts: int = Field(default=3, ge=1)


class Sending(Strict):
    """How deliveries are repeated.

    Args:
        first_wait_s: after the first failure; doubled after each further one.
        longest_wait_s: between two tries.
        tries: a delivery that failed so often is ``failed``, and waits for a person.
    """

    first_wait_s: Seconds = 5
    longest_wait_s: Seconds = 300
    tries: int = Field(default=1000, ge=1)  # about three days of a PACS that is down
    refused_tries: int = Field(default=5, ge=1)  # a peer that answers, and refuses the object


class OIDC(Strict):
    """Log in by the hospital's identity provider.

    Args:
        issuer: its address; ``/.well-known/openid-configuration`` is below it.
        client_id: ours.
        client_secret_file: file with our secret.
        role_claim: claim that holds groups or roles.
        roles: from what stands in that claim to ``viewer``, ``operator`` or ``admin``.
    """

    issuer: str
    client_id: str
    client_secret_file: Path
    role_claim: str = "groups"
    roles: dict[str, Literal["viewer", "operator", "admin"]]


class WebClient(Strict):
    """A machine that may use STOW-RS.

    Args:
        name: what pages call it.
        token_sha256: SHA-256 of its bearer token, hexadecimal.
    """

    name: Name
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Web(Strict):
    """Pages, STOW-RS, health and metrics.

    Args:
        host: address to listen on; without TLS only this machine unless a proxy stands before it.
        port: for HTTP(S).
        certificate: PEM file; with ``key``: HTTPS.
        key: PEM file.
        behind_proxy: a proxy that ends TLS stands before it; cookies are then marked Secure all the same.
        clients: who may use STOW-RS.
        session_h: after so many hours one logs in again.
        metrics_token_file: file with a bearer token that ``/metrics`` asks for; None: open.
        oidc: see :class:`OIDC`.
        viewer_url: address of the site's viewer with ``{study_uid}`` in it, for a link on the page of a series.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    clients: tuple[WebClient, ...] = ()
    session_h: float = Field(default=12, gt=0)
    metrics_token_file: Path | None = None
    oidc: OIDC | None = None
    viewer_url: str | None = None

    @model_validator(mode="after")
    def _guarded(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        local = self.host in ("127.0.0.1", "::1", "localhost")
        if not local and self.certificate is None and not self.behind_proxy:
            raise ValueError("passwords would cross the network in clear: give certificate and key, or behind_proxy")
        return self


class Settings(Strict):
    """All of it; see ``deploy/node.toml`` for an example with every setting.

    Args:
        data: folder for files and the database; on a local disk.
        bundle: folder of the trained bundle.
        sweep_every_s: how often peers with ``sweep`` are asked.
    """

    data: Path
    bundle: Path
    node: Node = Node()
    peers: tuple[Peer, ...] = ()
    rules: tuple[Rule, ...] = ()
    disk: Disk = Disk()
    retention: Retention = Retention()
    work: Work = Work()
    sending: Sending = Sending()
    web: Web = Web()
    sweep_every_s: Seconds = 900

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        names = [peer.name for peer in self.peers]
        titles = [peer.ae_title for peer in self.peers if peer.ae_title]
        for kind, listed in (("peers", names), ("AE titles", titles), ("rules", [rule.name for rule in self.rules])):
            twice = sorted({one for one in listed if listed.count(one) > 1})
            if twice:
                raise ValueError(f"two {kind} are called {', '.join(twice)}")
        receiving = {peer.name for peer in self.peers if peer.can_receive}
        for rule in self.rules:
            unknown = sorted(set(rule.send_to) - receiving)
            if unknown:
                raise ValueError(
                    f"rule {rule.name} sends to {', '.join(unknown)}, which is no peer with a port or url "
                    f"({', '.join(sorted(receiving)) or 'there is none'})"
                )
        if not self.rules:
            raise ValueError("there are no rules: nothing would be denoised")
        secured = [peer.name for peer in self.peers if peer.tls]
        if secured and self.node.tls is None:
            raise ValueError(f"peer {secured[0]} wants TLS, which needs [node.tls]")
        return self

    def in_words(self) -> Iterator[str]:
        """What they mean, line by line, for whoever wrote them."""
        secured = "TLS, client certificates asked for" if self.node.tls else "no TLS"
        yield f"listens as {self.node.ae_title} on {self.node.host}:{self.node.port} ({secured})"
        for peer in self.peers:
            place = peer.url or (f"{peer.ae_title} at {peer.host}:{peer.port}" if peer.port else f"{peer.ae_title}")
            doing = [
                "may send" if peer.may_send and not peer.url else "",
                f"receives, proof: {peer.confirm}" if peer.can_receive else "",
                f"is looked through for the last {peer.sweep_days} days" if peer.sweep else "",
            ]
            yield f"peer {peer.name}: {place}; {'; '.join(filter(None, doing)) or 'does nothing'}"
        for number, rule in enumerate(self.rules, start=1):
            when = " and ".join(f"{tag} is {_one_of(told)}" for tag, told in rule.when.items()) or "anything"
            then = f"strength {rule.strength:g}, {rule.priority}, to {', '.join(rule.send_to)}"
            yield f"rule {number}, {rule.name}: {when}; after {rule.quiet_s:g} s: {then if rule.process else 'nothing'}"
        yield f"pages on {self.web.host}:{self.web.port}; files in {self.data}; model in {self.bundle}"

    def peer(self, name: str) -> Peer | None:
        """The peer of that name."""
        return next((peer for peer in self.peers if peer.name == name), None)

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)


def _one_of(told: str | tuple[str, ...]) -> str:
    return told if isinstance(told, str) else " or ".join(told)
