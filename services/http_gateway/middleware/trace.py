"""The span of an HTTP request, by the semantic conventions of OpenTelemetry for HTTP servers."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from starlette.types import Scope

from aidevos.observability.tracing import FAILED, Segment, Span, TraceContext

from ..http.request import logged_path

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Stands for the status of a response that was cut off.
CUT_OFF = 500


def end_trace(trace: TraceContext, scope: Scope, status: int, seconds: float, request_id: str) -> None:
    """End the part of a trace that is this request, which had its response after these seconds.

    A stream goes on after the response has begun. That doesn't make it slow.
    """
    if not isinstance(trace, Segment):
        trace.open = False
        return
    failed = status >= FAILED or not status
    if not trace.keep(slow=seconds >= trace.slow_after, failed=failed):
        return
    method, route = scope["method"], scope["route"].path if "route" in scope else ""
    known = method in METHODS
    attributes: dict[str, Any] = {
        "http.request.method": method if known else "_OTHER",
        "http.response.status_code": status,
        "url.path": logged_path(scope),
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "aidevos.request.id": request_id,
    }
    if route:
        attributes["http.route"] = route
    name, times = f"{method if known else 'HTTP'} {route}".rstrip(), (trace.began, perf_counter())
    error = str(status) if failed else ""
    trace.export(Span(name, "server", trace.span_id, trace.parent_id, *times, attributes, error, failed))
