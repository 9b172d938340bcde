"""Kits of the services that keep accounts, with whatever others a test needs."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject, Service
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from services.authentication.service import service as authentication
from services.user_management.service import CREDENTIALS, KEEPERS
from services.user_management.service import service as user_management


def kit_of(settings: Settings, *others: type[BaseDurableObject[Any]] | Service, **options: Any) -> ObjectKit:
    """A kit in which users tell those services alone of their end that are in it."""
    hosted = hosted_types(authentication, user_management, *others)
    return ObjectKit(
        authentication,
        user_management,
        *others,
        settings=settings,
        keepers=tuple(keeper for keeper in KEEPERS if keeper[0] in hosted),
        credentials=tuple(ended for ended in CREDENTIALS if ended[0] in hosted),
        **options,
    )


def hosted_types(*hosted: type[BaseDurableObject[Any]] | Service) -> set[str]:
    """The names of the types of all these."""
    return {cls.object_type for each in hosted for cls in (each.types if isinstance(each, Service) else (each,))}
