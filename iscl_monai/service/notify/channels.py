"""Ways to tell people: a webhook, and mail."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

import httpx

from iscl_monai.service.notify.message import Message
from iscl_monai.service.notify_settings import Mail, Webhook
from iscl_monai.service.web_trust import bearer_header, read_secret, trusted_authorities

WITHIN_S = 15.0  # for each step of a connection
WHOLE_S = 60.0  # for all of them: a server that says a little now and then is no better than a silent one
READY = 220  # what a mail server greets with
CUT_AGAIN_S = 1.0  # a connection that is just becoming another one, by TLS, cannot be cut


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
            code = asyncio.run(asyncio.wait_for(self._post(message), WHOLE_S))
        except asyncio.TimeoutError as error:
            raise NotSentError(f"the webhook has not answered whole in {WHOLE_S:g} s") from error
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise NotSentError(f"the webhook cannot be reached: {_reason(error)}") from error
        if not 200 <= code < 300:
            raise NotSentError(f"the webhook answers {code}")

    async def _post(self, message: Message) -> int:
        headers, context = bearer_header(self.webhook.token_file), trusted_authorities(self.webhook.ca)
        async with (
            httpx.AsyncClient(verify=context, timeout=WITHIN_S, trust_env=False) as client,
            client.stream("POST", self.webhook.url, json=message.as_json(), headers=headers) as response,
        ):
            return response.status_code


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
            refused = self._hand_over(self._compose(message))
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise NotSentError(f"the mail server does not take it: {_reason(error)}") from error
        if refused:
            raise NotSentError(f"the mail server refuses {len(refused)} of {len(self.mail.to)} addresses")

    def _hand_over(self, mail: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Hand a mail to the server; the addresses that it refuses."""
        context = trusted_authorities(self.mail.ca)
        at_once = self.mail.security == "tls"
        server = smtplib.SMTP_SSL(timeout=WITHIN_S, context=context) if at_once else smtplib.SMTP(timeout=WITHIN_S)
        # whose certificate is expected: smtplib learns it only by its constructor, which would connect at once
        server._host = self.mail.host  # type: ignore[attr-defined]
        with _cut_off_in_the_end(server), _closed(server):
            code, answer = server.connect(self.mail.host, self.mail.port)
            if code != READY:
                raise smtplib.SMTPConnectError(code, answer)
            if not at_once:
                server.starttls(context=context)
            if self.mail.user is not None and self.mail.password_file is not None:
                server.login(self.mail.user, read_secret(self.mail.password_file))
            return server.send_message(mail)

    def _compose(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.subject, self.mail.sender, ", ".join(self.mail.to)
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=self.mail.sender.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"  # no out-of-office replies
        mail.set_content(message.text)
        return mail


@contextmanager
def _closed(server: smtplib.SMTP) -> Iterator[None]:
    """End the session in order if all went well, and in any case the connection."""
    try:
        yield
        with suppress(smtplib.SMTPException, OSError):  # the mail has been taken
            server.quit()
    finally:
        server.close()


@contextmanager
def _cut_off_in_the_end(server: smtplib.SMTP) -> Iterator[None]:
    """Cut its connection when the block takes longer than it may; whoever reads it gets an error."""
    done = threading.Event()

    def cut_off() -> None:
        wait_s = WHOLE_S
        while not done.wait(wait_s):
            wait_s = CUT_AGAIN_S
            with suppress(OSError, TypeError):  # there is no connection now
                socket.socket.shutdown(server.sock, socket.SHUT_RDWR)  # type: ignore[arg-type]

    threading.Thread(target=cut_off, name="mail deadline", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}".strip()
