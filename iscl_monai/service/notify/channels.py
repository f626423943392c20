"""Ways to tell people: a webhook, and mail."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

import httpx

from iscl_monai.service.notify.message import Message
from iscl_monai.service.notify_settings import Mail, Webhook
from iscl_monai.service.web_trust import bearer_header, read_secret, trusted_authorities

WITHIN_S = 15.0  # for each step of a connection


class NotSentError(Exception):
    """A message did not get through; its text says why."""


class Channel(Protocol):
    """Tells people."""

    name: str

    def send(self, message: Message) -> None:
        """Hand a message over.

        Raises:
            NotSentError: it was not taken.
        """
        ...


class WebhookChannel:
    """Posts a message as JSON.

    Args:
        webhook: where.
    """

    name = "webhook"

    def __init__(self, webhook: Webhook) -> None:
        self.webhook = webhook

    def send(self, message: Message) -> None:
        """See :class:`Channel`; what the server answers beyond its status is not read."""
        try:
            headers, context = bearer_header(self.webhook.token_file), trusted_authorities(self.webhook.ca)
            with (
                httpx.Client(verify=context, timeout=WITHIN_S, trust_env=False) as client,
                client.stream("POST", self.webhook.url, json=message.as_json(), headers=headers) as response,
            ):
                code = response.status_code
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise NotSentError(f"the webhook cannot be reached: {_reason(error)}") from error
        if not 200 <= code < 300:
            raise NotSentError(f"the webhook answers {code}")


class MailChannel:
    """Hands a message to a mail server, by TLS.

    Args:
        mail: which server, and to whom.
    """

    name = "mail"

    def __init__(self, mail: Mail) -> None:
        self.mail = mail

    def send(self, message: Message) -> None:
        """See :class:`Channel`."""
        try:
            with self._connect() as server:
                if self.mail.user is not None and self.mail.password_file is not None:
                    server.login(self.mail.user, read_secret(self.mail.password_file))
                refused = server.send_message(self._compose(message))
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise NotSentError(f"the mail server does not take it: {_reason(error)}") from error
        if refused:
            raise NotSentError(f"the mail server refuses {len(refused)} of {len(self.mail.to)} addresses")

    def _connect(self) -> smtplib.SMTP:
        context = trusted_authorities(self.mail.ca)
        if self.mail.security == "tls":
            return smtplib.SMTP_SSL(self.mail.host, self.mail.port, timeout=WITHIN_S, context=context)
        server = smtplib.SMTP(self.mail.host, self.mail.port, timeout=WITHIN_S)
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server

    def _compose(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.subject, self.mail.sender, ", ".join(self.mail.to)
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=self.mail.sender.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"  # no out-of-office replies
        mail.set_content(message.text)
        return mail


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}".strip()
