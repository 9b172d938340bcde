"""Which users must have a second factor, by the setting `mfa_required`."""

from __future__ import annotations

from collections.abc import Iterable

EVERYONE = "*"


def needs_second_factor(mfa_required: str, roles: Iterable[str]) -> bool:
    """True if the setting names one of the roles, or everyone."""
    named = {name.strip() for name in mfa_required.split(",")}
    return EVERYONE in named or not named.isdisjoint(roles)
