"""The composition root of the authentication service."""

from __future__ import annotations

import asyncio
from typing import Any

from aidevos import BaseDurableObject, DurableObjectClient
from aidevos.security.passwords import Passwords
from aidevos.security.sealed import Sealer
from aidevos.security.throttle import AddressThrottle, Throttles
from aidevos.settings import Settings
from services.authentication.account import AuthenticationDO
from services.authentication.audit import AuditDO
from services.authentication.keys import tend_keys
from services.authentication.mint import Mint
from services.authentication.retention import expire_entries
from services.authentication.session import SessionDO

SERVICE = "authentication"
OTP_WINDOW = 86_400.0
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (AuthenticationDO, SessionDO, AuditDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    mint = Mint(settings)
    AuthenticationDO.settings = SessionDO.settings = AuditDO.settings = settings
    AuthenticationDO.mint = SessionDO.mint = mint
    AuthenticationDO.passwords = Passwords(settings)
    AuthenticationDO.sealer = Sealer(settings)
    AuthenticationDO.guesses = Throttles(settings.otp_failures, OTP_WINDOW, "wrong codes of this account today")
    AuthenticationDO.logins = AddressThrottle(settings.address_logins, settings.login_window, "logins")
    return TYPES


async def tend(outside: DurableObjectClient, settings: Settings) -> None:
    """What the service does by itself, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tend_keys(outside, settings))
        tasks.create_task(expire_entries(outside, settings))
