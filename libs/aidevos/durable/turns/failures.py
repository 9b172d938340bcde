"""The failures that the framework itself raises."""

from __future__ import annotations

import logging
import secrets

from aidevos.contracts.errors import Failure

log = logging.getLogger(__name__)


def moved() -> Failure:
    """Return the failure of a request to a process that doesn't own the object, or no longer does."""
    return Failure("moved", "this process doesn't own the object")


def not_applied() -> Failure:
    """Return the failure of a request whose object left this process before the request took effect."""
    return Failure("unavailable", "the object was moved; the request was not applied")


def outcome_unknown() -> Failure:
    """Return the failure of a request that may or may not have been applied. A repeat gets the outcome."""
    return Failure("unavailable", "the outcome is not known yet; repeat the request with the same Request-Id")


def moved_during_turn() -> Failure:
    """Return the failure of a turn that can't continue in this process."""
    return Failure("unavailable", "the object was moved while the method was running")


def log_unexpected(error: BaseException, where: str) -> Failure:
    """Log an unexpected exception, and return `internal` with the `error_id` of the log line."""
    error_id = secrets.token_hex(8)
    log.error("%s raised (error %s)", where, error_id, exc_info=error, extra={"error_id": error_id})
    return Failure(
        "internal", "an internal error occurred; the log line with this error_id has the details", error_id=error_id
    )
