"""Pure rules of users; nothing here waits for anything."""

from __future__ import annotations

from typing import Any

from aidevos.security.passwords import check_policy


def check_password(password: str, shortest: int, username: str, email: str, full_name: str) -> None:
    """Raises `invalid` for a password that the policy refuses."""
    own = (username, email, email.partition("@")[0], full_name)
    check_policy(password, shortest, own, field="args.password")


def merge_patch(target: Any, patch: Any) -> Any:
    """The target after the patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def administers(roles: list[str], status: str) -> bool:
    return "admin" in roles and status == "active"
