"""The access log: one line for each HTTP request, without its query, which may hold secrets."""

from __future__ import annotations

import logging

from starlette.types import Scope

from aidevos.security.permissions import ANONYMOUS, Principal

from ..http.request import PRINCIPAL, REQUEST_ID, logged_path

log = logging.getLogger(__name__)


def log_access(scope: Scope, route: str, status: int, seconds: float, size: int) -> None:
    """Log a request that was answered within these seconds, by a body of `size` bytes."""
    path = logged_path(scope)
    fields = {
        "method": scope["method"],
        "route": route,
        "path": path,
        "status": status,
        "seconds": round(seconds, 6),
        "bytes": size,
        "request_id": scope[REQUEST_ID],
        "principal": _kind(scope.get(PRINCIPAL)),
    }
    log.info("%s %s %d", scope["method"], path, status, extra=fields)


def _kind(principal: Principal | None) -> str:
    """Return the kind of a caller; a caller who was not admitted is unknown."""
    if principal is None:
        return "unknown"
    if principal is ANONYMOUS:
        return "anonymous"
    if principal.key:
        return "api_key"
    return "service" if principal.is_service else "user"
