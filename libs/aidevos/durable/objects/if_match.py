"""`If-Match`: a caller's condition on an object's version (RFC 9110 §13.1.1)."""

from __future__ import annotations

import re

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure

_tag = re.compile(r'\s*(?:(W/)?"([\x21\x23-\x7e]*)")\s*').fullmatch


def check_if_match(condition: str | None, exists: bool, version: int) -> None:
    """Compare an `If-Match` header with an object's version, by strong comparison (RFC 9110 §13.1.1).

    Without a condition (None), return at once. Raises `precondition-failed`, or `bad-request` for a malformed one.
    """
    if condition is None:
        return
    if condition.strip() == "*":
        matched = exists
    else:
        tags = [_tag(part) for part in condition.split(",")]
        if not all(tags):
            raise Failure("bad-request", 'send If-Match: "<version>" or *', field=envelope.IF_MATCH)
        matched = exists and any(tag and not tag[1] and tag[2] == str(version) for tag in tags)
    if not matched:
        raise Failure(
            "precondition-failed", f"the object has version {version}" if exists else "the object does not exist"
        )
