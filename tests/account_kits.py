"""Kits of the services that keep accounts, with whatever others a test needs."""

from __future__ import annotations

from typing import Any

from services.authentication.bootstrap import build as build_authentication
from services.user_management.bootstrap import CREDENTIALS, KEEPERS
from services.user_management.bootstrap import build as build_users

from aidevos import BaseDurableObject
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from services.user_management.user import UserManagementDO


def kit_of(settings: Settings, *others: type[BaseDurableObject[Any]], **options: Any) -> ObjectKit:
    """A kit in which users tell those services alone of their end that are in it."""
    kit = ObjectKit(*build_authentication(settings), *build_users(settings), *others, **options)
    hosted = kit.router.registry.types
    UserManagementDO.keepers = tuple(keeper for keeper in KEEPERS if keeper[0] in hosted)
    UserManagementDO.credentials = tuple(ended for ended in CREDENTIALS if ended[0] in hosted)
    return kit
