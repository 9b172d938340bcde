"""Passwords that are hashed in a fraction of the time. The hashing takes most of what a login costs."""

from __future__ import annotations

from typing import Any

from argon2 import PasswordHasher

from aidevos.security import passwords


def _weak(**_: Any) -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def weaken_passwords() -> None:
    """Let this process hash its passwords weakly, whatever its settings say."""
    passwords.PasswordHasher = _weak  # type: ignore[assignment,misc]
