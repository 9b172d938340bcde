"""An SMTP server in the test's process, and helpers that read mails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.support.servers import free_port

USER, PASSWORD = "mailer@example.org", "p@ss:word/?"


class SmtpServer:
    """Keeps the mails that it accepts. `refusals` maps the command `RCPT` or `DATA` to the answer that refuses it."""

    def __init__(self, *, auth: bool = False) -> None:
        self.port = free_port()
        self.taken: list[bytes] = []
        self.recipients: list[str] = []
        self.refusals: dict[str, str] = {}
        self.hold: asyncio.Event | None = None
        self._auth = auth
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[EmailMessage]:
        return [parsed(content) for content in self.taken]

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"enable_SMTPUTF8": True, "hostname": "localhost"}
        if self._auth:
            options |= {"authenticator": self._authenticate, "auth_required": True, "auth_require_tls": False}
        self._server = await loop.create_server(lambda: SMTP(self, loop=loop, **options), "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Iterable[str]
    ) -> str:
        if "RCPT" in self.refusals:
            return self.refusals["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.hold is not None:
            await self.hold.wait()
        if "DATA" in self.refusals:
            return self.refusals["DATA"]
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content)
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def parsed(content: bytes) -> EmailMessage:
    message = message_from_string(content.decode(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def in_folder(folder: Path, to: str | None = None) -> list[EmailMessage]:
    """Return the mails in an outbox folder, oldest first, to one address or to all."""
    found = [parsed(path.read_bytes()) for path in sorted(folder.glob("*.eml"), key=_written)]
    return [message for message in found if to is None or message["To"] == to]


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def token_in(message: EmailMessage) -> str:
    """Return the token of the link in a mail."""
    link = re.search(r"#token=(\S+)", message.get_content())
    assert link is not None, message
    return link[1]
