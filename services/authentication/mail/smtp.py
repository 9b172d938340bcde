"""Mail through an SMTP server (RFC 5321)."""

from __future__ import annotations

from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib

from aidevos import Peers, Slots
from aidevos.contracts.errors import Failure

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
# Seconds to wait for each answer of the server.
TIMEOUT = 60.0
# Simultaneous connections of all processes; each uses its share.
CONNECTIONS = 8


class SmtpMailer:
    """A mailer that sends through the SMTP server at a URL.

    `smtp://` uses STARTTLS if the server offers it, `smtp+starttls://` requires it, and `smtps://` uses TLS
    from the start. Certificates are verified.
    """

    def __init__(self, url: str, peers: Peers) -> None:
        self._server = urlsplit(url)
        self._connections = Slots(lambda: peers.share(CONNECTIONS))

    async def send(self, id: str, message: EmailMessage) -> None:
        async with self._connections:
            try:
                await self._send(message)
            except aiosmtplib.SMTPRecipientsRefused as error:
                raise _failure(error.recipients[0]) from None
            except aiosmtplib.SMTPDataError as error:
                raise _failure(error) from None
            except aiosmtplib.SMTPNotSupported:
                raise Failure("invalid", "the mail server doesn't support addresses like the recipient's") from None
            except (aiosmtplib.SMTPException, OSError) as error:
                raise Failure("unavailable", f"the mail server can't be used: {type(error).__name__}") from None

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
    """Return the failure for a refusal, by the class of its reply code (RFC 5321 §4.2.1).

    The reply's text is left out, because it may contain the address.
    """
    if refusal.code >= 500:
        return Failure("invalid", f"the mail server permanently refused the mail ({refusal.code})")
    return Failure("unavailable", f"the mail server temporarily refused the mail ({refusal.code})")
