"""Cross-origin requests, as far as a setting allows them (Fetch standard, CORS).

Promise: only pages of listed origins (any, if the list is `*`) may read responses, and never with
credentials that the browser adds: cookies work only for pages of the gateway's own origin.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.observability import request_ids

from ..http.responses import SECURITY

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SENT = (
    "Authorization",
    "Content-Type",
    "Deadline",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Otp",
    "traceparent",
    "tracestate",
    "X-Api-Key",
    "X-Request-Id",
)
SHOWN = (
    "Accept-Patch",
    "Allow",
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)


class Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=SHOWN, max_age=600
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request; a refusal is a problem document like any other."""
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            failure = Failure("forbidden", bytes(response.body).decode())
            headers = {"Vary": "Origin"}
            response = Response(failure.encode(), failure.status, headers, MEDIA_TYPE)
        response.headers["X-Request-Id"] = request_ids.choose(request_headers.get("x-request-id"))
        for name, value in SECURITY:
            response.headers[name.decode()] = value.decode()
        return response
