"""Kits of the account services, with any other services that a test needs."""

from __future__ import annotations

import asyncio
from typing import Any

from aidevos import BaseDurableObject, Service
from aidevos.contracts import envelope
from aidevos.contracts.authentication import account_id, session_of
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.authentication.service import CREDENTIAL_HOLDERS
from services.authentication.service import service as authentication
from services.user_management.service import DEACTIVATION_HOOKS, ERASURE_HOOKS
from services.user_management.service import service as user_management
from tests.support.kits import chosen


def kit_of(settings: Settings, *others: type[BaseDurableObject[Any]] | Service, **options: Any) -> ObjectKit:
    """Return a kit whose erasure and deactivation hooks call only the types that it hosts."""
    hosted = hosted_types(authentication, user_management, *others)
    return ObjectKit(
        authentication,
        user_management,
        *others,
        settings=settings,
        erasure_hooks=tuple(hook for hook in ERASURE_HOOKS if hook[0] in hosted),
        credential_holders={name: type for name, type in CREDENTIAL_HOLDERS.items() if type in hosted},
        deactivation_hooks=tuple(hook for hook in DEACTIVATION_HOOKS if hook[0] in hosted),
        **options,
    )


def hosted_types(*hosted: type[BaseDurableObject[Any]] | Service) -> set[str]:
    """Return the names of all these types."""
    return {cls.object_type for each in hosted for cls in (each.types if isinstance(each, Service) else (each,))}


PASSWORD = "wheelbarrow at noon"
NOTHING: dict[str, str] = {}
NAME, EMAIL = "Ada", "Ada@Example.org"
OPEN = asyncio.Event()
OPEN.set()


async def register(
    kit: ObjectKit, id: str, name: str = NAME, email: str = EMAIL, request: str = "r", headers: Any = NOTHING
) -> Any:
    args = {"username": name, "email": email, "password": PASSWORD}
    return await kit.call("user", id, "register", **args, caller=ANONYMOUS, headers={**chosen(request), **headers})


async def login(kit: ObjectKit, name: str = NAME, password: str = PASSWORD, headers: Any = NOTHING) -> Any:
    args = {"username": name, "password": password}
    return await kit.call("auth", account_id(name), "login", **args, caller=ANONYMOUS, headers=headers)


def from_address(address: str) -> dict[str, str]:
    return {envelope.CLIENT_ADDRESS: address}


async def serve(kit: ObjectKit, type: str, id: str, method: str, args: Any = NOTHING) -> Any:
    """Call a method that only services may call."""
    return await kit.call(type, id, method, **args, caller=SERVICE)


async def refresh(kit: ObjectKit, pair: Any) -> Any:
    token = pair["refresh_token"]
    return await kit.call("session", session_of(token), "refresh", refresh_token=token, caller=ANONYMOUS)


def owner(pair: Any) -> Principal:
    return Principal(pair["user"]["id"], ("user",), frozenset(), session=session_of(pair["refresh_token"]))
