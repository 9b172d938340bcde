"""Pure rules of users; nothing here waits for anything."""

from __future__ import annotations

from collections.abc import Iterable

from aidevos.contracts.errors import Failure
from aidevos.security.passwords import check_policy
from aidevos.security.permissions import Principal


def check_password(password: str, shortest: int, username: str, email: str, full_name: str) -> None:
    """Raises `invalid` for a password that the policy refuses."""
    own = (username, email, email.partition("@")[0], full_name)
    check_policy(password, shortest, own, field="args.password")


def check_grant(caller: Principal, permissions: Iterable[str], *, field: str | None = None) -> None:
    """Raises `forbidden` for a role that allows more than whoever decides about it may do."""
    beyond = sorted(name for name in permissions if not caller.has(name))
    if beyond:
        raise Failure("forbidden", f"the role allows what you may not do yourself: {', '.join(beyond)}", field=field)


def administers(roles: list[str], status: str) -> bool:
    return "admin" in roles and status == "active"
