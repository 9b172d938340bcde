"""Structured logs on standard error: JSON, one object per line, or readable lines on a terminal.

Promises: records of the standard library's loggers and of structlog's go the same way. Nothing that looks like a
credential is logged, even if it was passed to a logger or occurs in an exception's text; it is replaced by `[secret]`.
Where a line comes from costs nothing until a line is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

from aidevos.log_levels import parse_levels
from aidevos.observability.log_lines import import_structlog, is_colourful, line_renderer
from aidevos.observability.redaction import clean, redact
from aidevos.observability.tracing import current_trace_id
from aidevos.settings import Settings

# What a line names besides its message: the request, the type, the object, …
Context = Callable[[], Mapping[str, Any]]
_OWN = frozenset({"time", "level", "service", "replica", "logger", "message", "event", "exc_info", "color_message"})


class LineMaker:
    """Makes the fields of a line out of a record: a processor of structlog.

    `context` returns what the line names besides; what the record itself says goes first.
    """

    def __init__(self, service: str, replica: int, context: Context) -> None:
        self._service = service
        self.replica = replica
        self._context = context

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        record: logging.LogRecord = event.pop("_record")
        del event["_from_structlog"]
        if "stack_info" in event:
            event["stack"] = event.pop("stack_info")
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "replica": self.replica,
            "logger": record.name,
            "message": redact(str(event.get("event", ""))),
        }
        if trace := current_trace_id():
            line["trace_id"] = trace
        line.update(self._context())
        line.update((name, clean(name, value)) for name, value in event.items() if name not in _OWN)
        return line


_current = LineMaker("", 0, dict)


def configure(settings: Settings, service: str, context: Context = dict) -> None:
    """Send all logging of this process to standard error, as the settings say, under the name of a service.

    `context` returns the request, type and object that a line is about, as far as the running code has them. It is
    called for each line.
    """
    global _current
    structlog = import_structlog()
    _current = LineMaker(service, settings.replica, context)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(structlog, settings.log_format))
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)
    # httpx2 logs every requested URL, and a webhook's URL may contain a secret.
    for name, level in {"httpx2": "WARNING", **parse_levels(settings.log_level)}.items():
        logging.getLogger(name or None).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught


def set_replica(replica: int) -> None:
    """Name this number in the lines that follow."""
    _current.replica = replica


def _formatter(structlog: Any, log_format: str) -> logging.Formatter:
    renderer: Callable[[Mapping[str, Any]], str]
    if log_format == "console" or (log_format == "auto" and sys.stderr.isatty()):
        renderer = line_renderer(colours=is_colourful(sys.stderr))
    else:
        renderer = _to_json
    formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.processors.format_exc_info,
            _current,
            lambda logger, method, line: renderer(line),
        ],
    )
    return formatter


def _to_json(line: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(line).decode()
    except (ValueError, OverflowError):
        # Half of a surrogate pair, or a huge number.
        return json.dumps(line)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log the exception that ends the process."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("the process ends", exc_info=(kind, error, trace))
