"""The failures that the framework itself raises."""

from __future__ import annotations

import logging
import secrets

from aidevos.contracts.errors import Failure

log = logging.getLogger(__name__)
# Members of a `forbidden` problem: the rule that the caller fails, or that a service fails with a call of its own.
NEEDS = "needs"
SERVICE_NEEDS = "service_needs"


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


class ServiceRefused(Failure):
    """Raised when a service lacks the permission for its own call.

    It isn't recorded as an outcome, because a change of the configuration makes a repeat succeed.
    """


def service_refused(refused: Failure, where: str) -> ServiceRefused | None:
    """Log and return the failure of a turn whose service lacks a permission; None if `refused` says nothing of that.

    `where` is the calling method.
    """
    members = refused.extra or {}
    if refused.code != "forbidden" or not members.keys() & {NEEDS, SERVICE_NEEDS}:
        return None
    if SERVICE_NEEDS in members:
        return ServiceRefused(refused.code, refused.detail, extra=members)
    detail = (
        f"{refused.detail}, which the service that runs {where} lacks; "
        "the setting AIDEVOS_SERVICE_PERMISSIONS of that service grants it permissions"
    )
    log.error("%s", detail)
    return ServiceRefused(refused.code, detail, extra={SERVICE_NEEDS: members[NEEDS]})


def log_unexpected(error: BaseException, where: str) -> Failure:
    """Log an unexpected exception, and return `internal` with the `error_id` of the log line."""
    error_id = secrets.token_hex(8)
    log.error("%s raised (error %s)", where, error_id, exc_info=error, extra={"error_id": error_id})
    return Failure(
        "internal", "an internal error occurred; the log line with this error_id has the details", error_id=error_id
    )
