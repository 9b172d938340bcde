"""A person without an account, and an administrator with one."""

from __future__ import annotations

import secrets

import httpx2
import pytest

from tests.support.http import NO_TLS
from tests.support.logins import Person, admin_password, bearer
from tests.support.world import World


@pytest.fixture
def person() -> Person:
    name = f"Ada{secrets.token_hex(6)}"
    return Person(name, f"{name}@Example.org")


@pytest.fixture
def admin(world: World) -> dict[str, str]:
    """Log the first administrator in, and return the headers."""
    credentials = {"username": "admin", "password": admin_password(world)}
    return bearer(httpx2.post(f"{world.url}/auth/login", json=credentials, verify=NO_TLS).json())
