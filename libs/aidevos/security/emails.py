"""Validation of e-mail addresses."""

from __future__ import annotations

import email_validator

from aidevos.contracts.errors import Failure
from aidevos.contracts.users import EMAIL_LIMIT

# Addresses under `.local` and similar domains are real in the networks where a fleet may run.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def check_email(email: str) -> str:
    """Return the address in normal form. Raises `invalid`. Only its form is checked, without DNS."""
    try:
        checked = email_validator.validate_email(email, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise Failure("invalid", str(error), field="args.email") from None
    if len(checked.normalized) > EMAIL_LIMIT:
        raise Failure("invalid", f"an address can have at most {EMAIL_LIMIT} characters", field="args.email")
    return checked.normalized
