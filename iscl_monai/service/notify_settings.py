"""Settings of the notifications: whom the node tells when something needs a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from iscl_monai.service.rules import Port, Seconds, Strict

MailAddress = Annotated[str, Field(pattern=r"^[^\s@<>\",]+@[^\s@<>\",]+$", max_length=254)]


class Webhook(Strict):
    """Where notifications are posted as JSON.

    Args:
        url: with ``text`` in the body, as chat servers take it; no user and password in it.
        token_file: file with a bearer token for it.
        ca: PEM file of the authority of its certificate; default: the system's.
    """

    url: str = Field(pattern=r"^https?://[^\s@]+$")
    token_file: Path | None = None
    ca: Path | None = None


class Mail(Strict):
    """The mail server that notifications are handed to; always by TLS.

    Args:
        host: of the server; must stand in its certificate.
        port: of the server.
        security: ``starttls``, or ``tls`` from the first byte (port 465).
        ca: PEM file of the authority of its certificate; default: the system's.
        user: to log in with; None: without.
        password_file: file with the password.
        sender: address that mails come from.
        to: addresses that they go to.
    """

    host: str
    port: Port = 587
    security: Literal["starttls", "tls"] = "starttls"
    ca: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    sender: MailAddress
    to: tuple[MailAddress, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _logs_in(self) -> Mail:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        return self


class Notify(Strict):
    """Whom the node tells, and how soon.

    Args:
        webhook: see :class:`Webhook`.
        mail: see :class:`Mail`.
        after_s: a part of the node must be unwell for so long, and well for so long again, before anybody is told.
        every_s: how often causes are looked for; what is found together is one message.
        page_url: address of the pages, for the message.
    """

    webhook: Webhook | None = None
    mail: Mail | None = None
    after_s: Seconds = 120
    every_s: Seconds = 30
    page_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
