"""A collector of traces: a real OTLP/HTTP receiver on loopback that keeps the spans it gets."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as EncodedSpan


class CollectedSpan(NamedTuple):
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    attributes: dict[str, Any]
    failed: bool
    # The trace and span IDs of its links.
    links: list[tuple[str, str]]
    began: int
    ended: int


class Collector:
    """Keeps all spans. `answer` is the status with which it answers, and `hang` lets it answer nothing."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        self.answer = 200
        self.hang = threading.Event()
        self.requests = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests += 1
                while collector.hang.is_set():
                    if collector._closed.wait(0.05):
                        return
                if self.path == "/v1/traces" and collector.answer == 200:
                    collector.spans += _decode(body)
                self.send_response(collector.answer)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace_id: str) -> list[CollectedSpan]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def until(self, trace_id: str, *edges: tuple[str, str], within: float = 20.0) -> list[CollectedSpan]:
        """Return a trace, once it has all of these edges: the names of a span and of one below it."""
        try:
            async with asyncio.timeout(within):
                while not edges_of(self.trace(trace_id)) >= set(edges):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            missing = set(edges) - edges_of(self.trace(trace_id))
            raise AssertionError(f"{missing} isn't in\n{draw(self.trace(trace_id))}") from None
        return self.trace(trace_id)


def edges_of(spans: list[CollectedSpan]) -> set[tuple[str, str]]:
    """Return the pairs of the names of spans and of those above them; the name above a root is empty."""
    names = {span.span_id: span.name for span in spans}
    return {(names.get(span.parent_id, ""), span.name) for span in spans}


def draw(spans: list[CollectedSpan], parent: str | None = None, depth: int = 0) -> str:
    """Return a trace as an indented text."""
    known = {span.span_id for span in spans}
    below = [span for span in spans if (span.parent_id == parent if parent else span.parent_id not in known)]
    lines = [
        f"{'  ' * depth}{span.service}: {span.name}\n{draw(spans, span.span_id, depth + 1)}"
        for span in sorted(below, key=lambda span: span.began)
    ]
    return "".join(lines)


def _decode(body: bytes) -> list[CollectedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(_attributes(resource.resource.attributes)["service.name"], span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(service: str, span: Any) -> CollectedSpan:
    return CollectedSpan(
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        EncodedSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        _attributes(span.attributes),
        span.status.code == 2,
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(found: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in found}
