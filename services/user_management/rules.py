"""Pure rules of users. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable

from aidevos.contracts.errors import Failure
from aidevos.security.passwords import check_policy
from aidevos.security.permissions import Principal


def check_password(password: str, shortest: int, username: str, email: str, full_name: str) -> None:
    """Raise `invalid` if the policy refuses the password. `shortest` is the least number of characters."""
    personal = (username, email, email.partition("@")[0], full_name)
    check_policy(password, shortest, personal, field="args.password")


def check_grant(caller: Principal, permissions: Iterable[str], *, field: str | None = None) -> None:
    """Raise `forbidden` if the caller lacks one of a role's permissions."""
    missing = sorted(name for name in permissions if not caller.has(name))
    if missing:
        raise Failure("forbidden", f"the role has permissions that you lack: {', '.join(missing)}", field=field)


def is_administrator(roles: list[str], status: str) -> bool:
    """Return True for the roles and status of an active administrator."""
    return "admin" in roles and status == "active"
