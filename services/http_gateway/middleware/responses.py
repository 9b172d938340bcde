"""The outermost layer: it gives every request a response, a request ID, metrics and, if it fails, a log line.

Promise: every exception from below becomes a problem document here. An unexpected exception becomes
`internal` with an `error_id`, which finds its log line; nothing else about it leaves the process.
"""

from __future__ import annotations

import logging
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aidevos.contracts.errors import Failure
from aidevos.durable.access.limiter import RateLimited
from aidevos.observability import metrics, request_ids

from ..http.responses import (
    POLICY,
    PRIVATE,
    RATE_LIMIT,
    SECURITY,
    Header,
    problem_response,
    send_response,
)

UNMATCHED = "unmatched"
ENCODED_SLASH = b"%2f"
# Browsers that see this use only TLS for a year (RFC 6797).
STRICT_TRANSPORT: Header = (b"strict-transport-security", b"max-age=31536000")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger(__name__)


class ResponseMiddleware:
    """ASGI middleware that completes every response."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app = app
        over_tls = public_url.startswith("https://")
        self._always = (*SECURITY, STRICT_TRANSPORT) if over_tls else SECURITY
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        request_id = request_ids.choose(_proposed(scope))
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                own = dict(headers)
                headers += self._always
                headers += [each for each in (POLICY, PRIVATE) if each[0] not in own]
                headers.append((b"x-request-id", request_id.encode()))
                if RATE_LIMIT in scope:
                    headers += scope[RATE_LIMIT].headers()
            await send(message)

        try:
            if ENCODED_SLASH in scope["raw_path"].lower():
                # A proxy's path rules would see another path than the routes do.
                raise Failure("not-found", "a path can't contain an encoded slash")
            await self._app(scope, receive, tagged)
        except Exception as error:
            if status:
                raise
            if isinstance(error, RateLimited):
                scope[RATE_LIMIT] = error.verdict
            failure = _failure_of(error, request_id)
            await send_response(problem_response(failure), tagged)
            _record(failure, scope, request_id)
        self._count(scope, status, perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["route"].path if "route" in scope else UNMATCHED
        key = (scope["method"], route, status)
        count = self._counts.get(key)
        if count is None:
            method = key[0] if key[0] in METHODS else "other"
            count = self._counts[key] = metrics.HTTP_REQUESTS.labels(method, route, status)
            self._timers[route] = metrics.HTTP_SECONDS.labels(route)
        count.inc()
        self._timers[route].observe(seconds)


def _proposed(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return None


def _failure_of(error: Exception, request_id: str) -> Failure:
    if isinstance(error, Failure):
        return error
    error_id = request_ids.new_error_id()
    log.error("a request failed", exc_info=error, extra={"error_id": error_id, "request_id": request_id})
    return Failure("internal", "the gateway failed; its log has details under this error_id", error_id=error_id)


def _record(failure: Failure, scope: Scope, request_id: str) -> None:
    metrics.FAILURES.labels("http", failure.code).inc()
    log.log(
        logging.WARNING if failure.status >= 500 else logging.INFO,
        "%s %s: %s",
        scope["method"],
        scope["path"],
        failure.code,
        extra={
            "request_id": request_id,
            "status": failure.status,
            "field": failure.field,
            "error_id": failure.error_id,
        },
    )
