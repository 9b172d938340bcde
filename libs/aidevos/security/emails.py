"""What an e-mail address is."""

from __future__ import annotations

import email_validator

from aidevos.contracts.errors import Failure
from aidevos.contracts.users import EMAIL_LIMIT

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
