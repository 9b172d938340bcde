"""IDs that connect a response with its log lines."""

from __future__ import annotations

import itertools
import re
import secrets

LIMIT = 128
is_acceptable = re.compile(rf"[ -~]{{1,{LIMIT}}}").fullmatch
_prefix = secrets.token_hex(8)
_numbers = itertools.count(1)


def choose(proposed: str | None) -> str:
    """Return the caller's own ID if it is printable ASCII of at most 128 characters, otherwise a new one."""
    if proposed is not None and is_acceptable(proposed):
        return proposed
    return f"{_prefix}{next(_numbers):08x}"


def new_error_id() -> str:
    """Return an ID that finds the log line of an `internal` error."""
    return secrets.token_hex(8)
