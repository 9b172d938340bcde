"""The export of spans over OTLP/HTTP, by the SDK of OpenTelemetry. Only a process that records traces imports this.

Promise: a collector that is slow, or gone, costs no request anything. Spans wait in a queue of bounded length, from
which a thread sends them; those that find no room are dropped. The end of the process waits `CLOSE_WITHIN` seconds.

The endpoint, its headers and certificates, the queue (`OTEL_BSP_…`) and the resource (`OTEL_RESOURCE_ATTRIBUTES`,
`OTEL_SERVICE_NAME`) are read from the standard variables, by the SDK.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from aidevos.observability.tracing import Sink, Span, TraceContext
from aidevos.variables import SettingsError

CLOSE_WITHIN = 1.0
SCOPE = "aidevos"
_RECORDED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class _OwnResource(Resource):
    """The only resource of this process. The SDK's own would encode itself as JSON for each span, to be compared."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def open_sink(service: str, instance: str, version: str, environ: Mapping[str, str]) -> tuple[Sink, Callable[[], None]]:
    """Return a function that exports a span, and one that ends the export. Raises `SettingsError`."""
    _check(environ)
    # The SDK says in more lines than one what it drops while a collector is gone. Its errors say enough.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter())
    except ValueError as error:
        raise SettingsError(f"the OTEL_… variables can't be used: {error}") from None
    resource = _resource(service, instance, version, environ)
    convert = partial(_convert, resource, InstrumentationScope(SCOPE, version))
    return lambda context, span: processor.on_end(convert(context, span)), partial(_close, processor)


def _check(environ: Mapping[str, str]) -> None:
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER={exporter!r} isn't supported: use otlp or none")
    for variable in _PROTOCOLS:
        protocol = environ.get(variable, "").strip() or "http/protobuf"
        if protocol != "http/protobuf":
            raise SettingsError(f"{variable}={protocol!r} isn't supported: use http/protobuf")


def _resource(service: str, instance: str, version: str, environ: Mapping[str, str]) -> Resource:
    attributes = {"service.namespace": "aidevos", "service.instance.id": instance, "service.version": version}
    if not environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = service
    found = Resource.create(attributes)
    return _OwnResource(found.attributes, found.schema_url)


def _convert(resource: Resource, scope: InstrumentationScope, context: TraceContext, span: Span) -> ReadableSpan:
    # Spans have the times of a clock that never jumps, and are exported with those of the system clock.
    offset = time.time() - time.perf_counter()
    attributes: dict[str, Any] = dict(span.attributes)
    if span.error:
        attributes["error.type"] = span.error
    parent = span.parent_id
    return ReadableSpan(
        name=span.name,
        context=_span_context(context.trace_id, span.span_id, context.state),
        parent=_span_context(context.trace_id, parent, "") if parent else None,
        resource=resource,
        attributes=attributes,
        links=[Link(_span_context(link.trace_id, link.span_id, "")) for link in span.links],
        kind=_KINDS[span.kind],
        instrumentation_scope=scope,
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=int((span.began + offset) * 1e9),
        end_time=int((span.ended + offset) * 1e9),
    )


def _span_context(trace_id: str, span_id: str, state: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, _RECORDED, _parse_state(state) if state else None)


@lru_cache(maxsize=256)
def _parse_state(state: str) -> TraceState:
    return TraceState.from_header([state])


def _close(processor: BatchSpanProcessor) -> None:
    """Send what is left. The thread may outlive this, but not the process."""
    closing = threading.Thread(target=processor.shutdown, name="close-traces", daemon=True)
    closing.start()
    closing.join(CLOSE_WITHIN)
