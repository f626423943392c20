"""Settings of the pages, of STOW-RS, and of the login by an identity provider."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from iscl_monai.service.rules import Name, Port, Strict


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
        metrics_token_file: file with a bearer token that ``/metrics`` requires; None: open.
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
