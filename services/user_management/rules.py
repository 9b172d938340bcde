"""Pure rules of users; nothing here waits for anything."""

from __future__ import annotations

from collections.abc import Iterable

import email_validator

from aidevos.contracts.errors import Failure
from aidevos.contracts.users import EMAIL_LIMIT
from aidevos.security.passwords import check_policy
from aidevos.security.permissions import Principal

# Addresses under `.local` and the like are real ones in the networks where a fleet may run.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def check_email(email: str) -> str:
    """The address in its one spelling; raises `invalid`. Its form is checked, and no name server is asked."""
    try:
        checked = email_validator.validate_email(email, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise Failure("invalid", str(error), field="args.email") from None
    if len(checked.normalized) > EMAIL_LIMIT:
        raise Failure("invalid", f"an address has at most {EMAIL_LIMIT} characters", field="args.email")
    return checked.normalized


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
