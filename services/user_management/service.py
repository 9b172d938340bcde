"""The user management service: users, roles, and the first administrator."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aidevos import DurableObjectClient, Failure, Peers, Service, resource
from aidevos.contracts import roles, users
from aidevos.contracts.api_keys import HOLDER_TYPE
from aidevos.contracts.confirmation import CONFIRMATION_TYPE
from aidevos.contracts.data import ERASER_TYPE
from aidevos.contracts.projects import DEPARTURE_TYPE
from aidevos.contracts.webhooks import HOLDER_TYPE as WEBHOOKS_TYPE
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.permissions import ROLES
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings

from .administrators import AdministratorsDO
from .role import RoleDO
from .user import DeactivationHooks, ErasureHooks, Registrations, UserManagementDO

log = logging.getLogger(__name__)
ERASURE_HOOKS = ErasureHooks(
    (
        (CONFIRMATION_TYPE, "forget"),
        (HOLDER_TYPE, "erase"),
        (WEBHOOKS_TYPE, "erase"),
        (ERASER_TYPE, "erase"),
        (DEPARTURE_TYPE, "begin"),
    )
)
DEACTIVATION_HOOKS = DeactivationHooks(((HOLDER_TYPE, "erase"),))


@resource
async def registrations(settings: Settings, peers: Peers) -> AsyncIterator[Registrations]:
    yield Registrations(
        AddressThrottle(settings.address_registrations, settings.login_window, "registrations", peers.share)
    )


@resource
async def erasure_hooks() -> AsyncIterator[ErasureHooks]:
    yield ERASURE_HOOKS


@resource
async def deactivation_hooks() -> AsyncIterator[DeactivationHooks]:
    yield DEACTIVATION_HOOKS


async def install(objects: DurableObjectClient, settings: Settings) -> None:
    """Create the built-in roles and the first administrator, unless they exist."""
    for role in ROLES:
        await objects.call(roles.TYPE, role, "install")
    await install_administrator(objects, settings)


async def install_administrator(objects: DurableObjectClient, settings: Settings) -> None:
    """Create the first administrator, whose credentials are in `fleet.json`, once for each configured username."""
    password = settings.admin_password or load_secrets(settings.home).admin_password
    id = users.administrator_id(settings.admin_username)
    try:
        await objects.call(users.TYPE, id, "install", username=settings.admin_username, password=password)
    except Failure as failure:
        if failure.code != "exists":
            raise
        log.error("AIDEVOS_ADMIN_USERNAME names an existing user, who does not become an administrator by it")


service = Service(
    "user_management",
    types=(UserManagementDO, AdministratorsDO, RoleDO),
    resources=(registrations, erasure_hooks, deactivation_hooks),
    prepare=install,
)
