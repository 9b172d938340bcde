"""The observation of a process by itself: its traces, and its slow log."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from aidevos.observability import tracing
from aidevos.observability.slow_log import slow_log
from aidevos.observability.trace_variables import is_wanted, read_sampler
from aidevos.settings import Settings


@contextmanager
def observing(settings: Settings, service: str) -> Iterator[None]:
    """Observe this process during the block. The export of what is left then takes at most a second.

    Raises `SettingsError` for variables of OpenTelemetry that can't be used.
    """
    slow_log.configure(settings.slow_turn, settings.slow_commit, settings.slow_search)
    if not is_wanted(os.environ):
        yield
        return
    with _recording(service, settings.slow_turn, os.environ):
        yield


@contextmanager
def _recording(service: str, slow_after: float, environ: Mapping[str, str]) -> Iterator[None]:
    ratio, parent_based = read_sampler(environ)
    # Imported here, because it loads OpenTelemetry.
    from aidevos.observability.trace_export import open_sink

    instance = f"{socket.gethostname()}-{os.getpid()}"
    sink, close = open_sink(service, instance, version("aidevos"), environ)
    tracing.recorder = tracing.Recorder(sink, ratio=ratio, parent_based=parent_based, slow_after=slow_after)
    try:
        yield
    finally:
        tracing.recorder = None
        close()
