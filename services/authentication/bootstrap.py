"""The composition root of the authentication service."""

from __future__ import annotations

import asyncio
from typing import Any

from aidevos import BaseDurableObject
from aidevos.contracts import audit
from aidevos.durable.client.retention import keep_expiring
from aidevos.process.service import Process
from aidevos.security.passwords import Passwords
from aidevos.security.sealed import Sealer
from aidevos.security.throttle import AddressThrottle, Throttles
from aidevos.settings import Settings

from .account import AuthenticationDO
from .audit import AuditDO
from .confirmation import ConfirmationDO
from .keys import tend_keys
from .links import Links
from .mail.folder import FolderMailer
from .mail.message import MailDO
from .mail.port import Outgoing
from .mail.smtp import SmtpMailer
from .mint import Mint
from .recovery import RecoveryDO
from .session import SessionDO

SERVICE = "authentication"
OTP_WINDOW = 86_400.0
# Where mail goes without a mail server, under the home.
OUTBOX = "outbox"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (
    AuthenticationDO,
    SessionDO,
    AuditDO,
    ConfirmationDO,
    RecoveryDO,
    MailDO,
)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    mint = Mint(settings)
    AuthenticationDO.settings = SessionDO.settings = AuditDO.settings = settings
    AuthenticationDO.mint = SessionDO.mint = mint
    AuthenticationDO.passwords = Passwords(settings)
    AuthenticationDO.sealer = Sealer(settings)
    AuthenticationDO.guesses = Throttles(settings.otp_failures, OTP_WINDOW, "wrong codes of this account today")
    AuthenticationDO.logins = AddressThrottle(settings.address_logins, settings.login_window, "logins")
    _build_mail(settings)
    return TYPES


def _build_mail(settings: Settings) -> None:
    ConfirmationDO.settings = MailDO.settings = settings
    ConfirmationDO.tokens = MailDO.tokens = Links(settings)
    MailDO.outgoing = Outgoing(
        SmtpMailer(settings.smtp_url) if settings.smtp_url else FolderMailer(settings.home / OUTBOX)
    )
    limit, window = settings.address_mails, settings.login_window
    RecoveryDO.requests = AddressThrottle(limit, window, "requests for mail")
    ConfirmationDO.attempts = AddressThrottle(limit, window, "attempts with links")


async def tend(process: Process) -> None:
    """What the service does by itself, until cancelled."""
    settings, outside = process.settings, process.outside
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tend_keys(outside, settings))
        tasks.create_task(keep_expiring(outside, audit.TYPE, audit.SEARCH, settings.audit_age))
