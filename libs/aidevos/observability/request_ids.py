"""IDs that connect a response with its log lines."""

from __future__ import annotations

import itertools
import os
import re
import secrets

LIMIT = 128
is_acceptable = re.compile(rf"[ -~]{{1,{LIMIT}}}").fullmatch
_prefix = ""
_numbers = itertools.count(1)


def _renew_prefix() -> None:
    global _prefix
    _prefix = secrets.token_hex(8)


_renew_prefix()
# A process that was forked must not repeat the IDs of another one.
os.register_at_fork(after_in_child=_renew_prefix)


def choose(proposed: str | None) -> str:
    """Return the caller's own ID if it is printable ASCII of at most 128 characters, otherwise a new one."""
    if proposed is not None and is_acceptable(proposed):
        return proposed
    return f"{_prefix}{next(_numbers):08x}"


def new_error_id() -> str:
    """Return an ID that finds the log line of an `internal` error."""
    return secrets.token_hex(8)
