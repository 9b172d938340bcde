"""Mail through an SMTP server (RFC 5321)."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib

from aidevos.contracts.errors import Failure

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
# Seconds for each answer of the server, and connections at once.
TIMEOUT = 60.0
CONNECTIONS = 8


class SmtpMailer:
    """`smtp://` uses STARTTLS where the server offers it, `smtp+starttls://` insists on it, and `smtps://`
    speaks TLS from the start. Certificates are verified."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._connections = asyncio.Semaphore(CONNECTIONS)

    async def send(self, id: str, message: EmailMessage) -> None:
        async with self._connections:
            try:
                await self._send(message)
            except aiosmtplib.SMTPRecipientsRefused as error:
                raise _failure(error.recipients[0]) from None
            except aiosmtplib.SMTPDataError as error:
                raise _failure(error) from None
            except aiosmtplib.SMTPNotSupported:
                raise Failure("invalid", "the mail server doesn't take addresses like the recipient's") from None
            except (aiosmtplib.SMTPException, OSError) as error:
                raise Failure("unavailable", f"the mail server took no mail: {type(error).__name__}") from None

    async def _send(self, message: EmailMessage) -> None:
        server = self._server
        await aiosmtplib.send(
            message,
            hostname=server.hostname,
            port=server.port or PORTS[server.scheme],
            username=None if server.username is None else unquote(server.username),
            password=None if server.password is None else unquote(server.password),
            use_tls=server.scheme == "smtps",
            start_tls=True if server.scheme == "smtp+starttls" else None,
            timeout=TIMEOUT,
        )


def _failure(refusal: aiosmtplib.SMTPResponseException) -> Failure:
    """By the kind of the reply (RFC 5321 §4.2.1); its text may hold the address and is not repeated."""
    if refusal.code >= 500:
        return Failure("invalid", f"the mail server refuses the mail for good ({refusal.code})")
    return Failure("unavailable", f"the mail server refuses the mail for now ({refusal.code})")
