"""The composition root of the user management service, the built-in roles, and the first administrator."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from aidevos import BaseDurableObject, DurableObjectClient, Failure
from aidevos.contracts import roles, users
from aidevos.contracts.api_keys import HOLDER_TYPE
from aidevos.contracts.confirmation import CONFIRMATION_TYPE
from aidevos.contracts.data import ERASER_TYPE
from aidevos.contracts.projects import DEPARTURE_TYPE
from aidevos.contracts.webhooks import HOLDER_TYPE as WEBHOOKS_TYPE
from aidevos.process.fleet import load_secrets
from aidevos.security.permissions import ROLES
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings

from .administrators import AdministratorsDO
from .role import RoleDO
from .user import UserManagementDO

log = logging.getLogger(__name__)
SERVICE = "user_management"
# What has to go with a user: types that keep something in an object under the user's ID, and the
# method, for services and without arguments, that erases it. It is told once, after the erasure's commit.
KEEPERS: tuple[tuple[str, str], ...] = (
    (CONFIRMATION_TYPE, "forget"),
    (HOLDER_TYPE, "erase"),
    (WEBHOOKS_TYPE, "erase"),
    (ERASER_TYPE, "erase"),
    (DEPARTURE_TYPE, "begin"),
)
# What ends for good when a user is deactivated, besides the sessions; told in the same way.
CREDENTIALS: tuple[tuple[str, str], ...] = ((HOLDER_TYPE, "erase"),)
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (UserManagementDO, AdministratorsDO, RoleDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    UserManagementDO.settings = settings
    UserManagementDO.keepers = KEEPERS
    UserManagementDO.credentials = CREDENTIALS
    UserManagementDO.registrations = AddressThrottle(
        settings.address_registrations, settings.login_window, "registrations"
    )
    return TYPES


async def install(outside: DurableObjectClient, settings: Settings) -> None:
    """Make what every fleet has."""
    for role in ROLES:
        await outside.call(roles.TYPE, role, "install")
    await install_administrator(outside, settings)


async def install_administrator(outside: DurableObjectClient, settings: Settings) -> None:
    """Make the first administrator, whose credentials `fleet.json` tells; once for each name."""
    password = settings.admin_password or load_secrets(settings.home).admin_password
    id = hashlib.sha256(f"administrator:{settings.admin_username.lower()}".encode()).hexdigest()[:32]
    try:
        await outside.call(users.TYPE, id, "install", {"username": settings.admin_username, "password": password})
    except Failure as failure:
        if failure.code != "exists":
            raise
        log.error("AIDEVOS_ADMIN_USERNAME is the name of another user, who is no administrator by that")
