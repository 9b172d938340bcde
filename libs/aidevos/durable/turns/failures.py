"""The failures that the framework itself answers with."""

from __future__ import annotations

import logging
import secrets

from aidevos.contracts.errors import Failure

log = logging.getLogger(__name__)


def not_applied() -> Failure:
    """The object left this process before the request had an effect."""
    return Failure("unavailable", "the object was moved; the request was not applied")


def outcome_unknown() -> Failure:
    """The request may have been applied; a repeat will tell."""
    return Failure("unavailable", "the outcome is not known yet; repeat the request with its Request-Id")


def moved_during_turn() -> Failure:
    """The turn can't go on here."""
    return Failure("unavailable", "the object was moved while the method was running")


def unexpected(error: BaseException, where: str) -> Failure:
    """Log a bug, and return `internal` with an ID that finds the log line."""
    error_id = secrets.token_hex(8)
    log.error("%s raised (error %s)", where, error_id, exc_info=error, extra={"error_id": error_id})
    return Failure("internal", "the request failed on our side; the log has the details", error_id=error_id)
