"""The outermost layer: it gives every request a response, a request ID, metrics and, if it fails, a log line.

Promise: every exception from below becomes a problem document here. An unexpected exception becomes
`internal` with an `error_id`, which finds its log line; nothing else about it leaves the process.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aidevos.contracts.errors import Failure
from aidevos.durable.access.limiter import RateLimited
from aidevos.durable.client.client import NO_ANSWER, Unanswered
from aidevos.observability import metrics, request_ids, tracing
from aidevos.observability.instruments import Distribution, Number
from aidevos.observability.tracing import TraceContext

from ..http.cookies import SAFE_METHODS
from ..http.request import REQUEST_ID, logged_path, object_of
from ..http.responses import (
    POLICY,
    PRIVATE,
    RATE_LIMIT,
    SECURITY,
    Header,
    problem_response,
    send_response,
)
from .access_log import log_access
from .trace import CUT_OFF, METHODS, UNMATCHED, end_trace

ENCODED_SLASH = b"%2f"
# Browsers that see this use only TLS for a year (RFC 6797).
STRICT_TRANSPORT: Header = (b"strict-transport-security", b"max-age=31536000")
# Headers that name a request, and the trace that it belongs to.
NAMING = frozenset({b"x-request-id", b"traceparent", b"tracestate"})

log = logging.getLogger(__name__)
current_scope: ContextVar[Scope] = ContextVar("current_scope")


class ResponseMiddleware:
    """ASGI middleware that completes every response."""

    def __init__(self, app: ASGIApp, public_url: str, *, logs_access: bool = False) -> None:
        self._app = app
        self._logs_access = logs_access
        over_tls = public_url.startswith("https://")
        self._always = (*SECURITY, STRICT_TRANSPORT) if over_tls else SECURITY
        self._counts: dict[tuple[str, str, int], Number] = {}
        self._timers: dict[str, Distribution] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, logs_access, naming = perf_counter(), self._logs_access, _find_headers(scope)
        request_id = scope[REQUEST_ID] = request_ids.choose(naming.get(b"x-request-id"))
        current_scope.set(scope)
        trace = tracing.begin(naming.get(b"traceparent"), naming.get(b"tracestate"))
        tracing.running.set(trace)
        status, size, answered = 0, 0, started

        async def tagged(message: Message) -> None:
            nonlocal status, size, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], perf_counter()
                headers = message["headers"]
                own = dict(headers)
                headers += self._always
                headers += [each for each in (POLICY, PRIVATE) if each[0] not in own]
                headers.append((b"x-request-id", request_id.encode()))
                if RATE_LIMIT in scope:
                    headers += scope[RATE_LIMIT].headers()
            elif logs_access:
                size += len(message.get("body", b""))
            await send(message)

        try:
            if ENCODED_SLASH in scope["raw_path"].lower():
                # A proxy's path rules would see another path than the routes do.
                raise Failure("not-found", "a path can't contain an encoded slash")
            await self._app(scope, receive, tagged)
        except Exception as error:
            if status:
                if logs_access:
                    route = scope["route"].path if "route" in scope else UNMATCHED
                    log_access(scope, route, status, perf_counter() - started, size)
                if trace is not None:
                    end_trace(trace, scope, CUT_OFF, answered - started, request_id)
                raise
            if isinstance(error, RateLimited):
                scope[RATE_LIMIT] = error.verdict
            failure = _failure_of(error, request_id)
            if isinstance(failure, Unanswered) and scope["method"] in SAFE_METHODS:
                failure.detail = NO_ANSWER
            await send_response(problem_response(failure), tagged)
            _record(failure, scope, request_id)
        seconds = perf_counter() - started
        route = scope["route"].path if "route" in scope else UNMATCHED
        if logs_access:
            log_access(scope, route, status, seconds, size)
        if trace is not None:
            end_trace(trace, scope, status, answered - started, request_id)
        if metrics.measuring.on:
            self._count(scope["method"], route, status, answered - started, trace)

    def _count(self, method: str, route: str, status: int, seconds: float, trace: TraceContext | None) -> None:
        key = (method, route, status)
        count = self._counts.get(key)
        if count is None:
            method = method if method in METHODS else "other"
            count = self._counts[key] = metrics.HTTP_REQUESTS.labels(method, route, str(status))
            self._timers[route] = metrics.HTTP_SECONDS.labels(route)
        count.value += 1
        self._timers[route].observe(seconds, trace.trace_id if trace is not None and trace.sampled else None)


def describe_request() -> dict[str, str]:
    """Return the fields of lines that the running request logs: its ID, and the object that its path names."""
    scope = current_scope.get(None)
    if scope is None:
        return {}
    found = {"request_id": scope[REQUEST_ID]}
    object_id = object_of(scope)
    return found | {"type": object_id.partition(":")[0], "object": object_id} if object_id else found


def _find_headers(scope: Scope) -> dict[bytes, str]:
    """Return the headers that name the request and its trace."""
    return {name: value.decode("latin-1") for name, value in scope["headers"] if name in NAMING}


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
        logged_path(scope),
        failure.code,
        extra={
            "request_id": request_id,
            "status": failure.status,
            "field": failure.field,
            "error_id": failure.error_id,
        },
    )
