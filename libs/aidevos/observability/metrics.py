"""The metrics of a process in Prometheus' text format.

Several worker processes of one service share them if `PROMETHEUS_MULTIPROC_DIR` names a folder before
this module is imported.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

HTTP_REQUESTS = Counter("aidevos_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "aidevos_http_seconds",
    "Time from a request's headers to its response",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
OUTBOX_ENTRIES = Gauge("aidevos_outbox_entries", "Events and tells waiting to be sent", multiprocess_mode="livesum")
ALARMS = Counter("aidevos_alarms_total", "Alarms that rang, failed, or were skipped as too late", ["outcome"])
ALARM_LATENESS = Histogram(
    "aidevos_alarm_lateness_seconds",
    "Time from when an alarm was due to its turn",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600, 86400),
)
ALARMS_WAITING = Gauge(
    "aidevos_alarms_waiting", "Objects with alarms that are due or due soon", multiprocess_mode="livesum"
)
ACTIVE_OBJECTS = Gauge("aidevos_active_objects", "Objects in memory", multiprocess_mode="livesum")
PENDING_REQUESTS = Gauge(
    "aidevos_pending_requests", "Requests to objects that are not answered yet", multiprocess_mode="livesum"
)
UNLIMITED_REQUESTS = Counter(
    "aidevos_unlimited_requests_total", "Requests admitted because their rate limit could not be checked"
)
REFUSED_TELLS = Counter("aidevos_refused_tells_total", "Tells that were refused without a valid credential")
DROPPED_PLACEMENT_EVENTS = Counter(
    "aidevos_dropped_placement_events_total", "Events about hosts and partitions that could not be published"
)
FAILURES = Counter("aidevos_failures_total", "Requests refused or failed", ["door", "code"])


def exposition() -> bytes:
    """Return all metrics of this service."""
    if MULTIPROCESS_FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
