"""Structured logs: one JSON object a line on standard error.

Promise: nothing that looks like a credential leaves through here, whatever was passed to a logger
or stood in an exception's text; it is replaced by `[secret]`.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRET = re.compile(
    r"(?i:\b(?:bearer|apikey|basic)\s+)[^\s\"'\\,]+"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|\bwhsec_[\w+/=-]+"
    r"|(?<=://)[^\s/@\"'\\]+(?=@)"
)


class JsonFormatter(logging.Formatter):
    """Time (RFC 3339, UTC), level, service, logger, message, the record's `extra`, the exception."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(msgspec.json.encode(line, enc_hook=repr).decode())


def redact(text: str) -> str:
    """The text without tokens, keys and the credentials of URLs."""
    return _SECRET.sub("[secret]", text)


def configure(level: str, service: str) -> None:
    """Send all logging of this process to standard error, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It logs each URL that is asked, and that of a webhook may hold what its receiver knows it by.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
