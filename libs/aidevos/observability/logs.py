"""Structured logs: one JSON object per line on standard error.

Promise: nothing that looks like a credential is logged, even if it was passed to a logger or occurs in
an exception's text; it is replaced by `[secret]`.
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
    """A formatter for JSON lines.

    A line holds the time (RFC 3339, UTC), level, service, logger, message, the record's `extra`, and
    the exception.
    """

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
    """Return the text without tokens, keys and credentials in URLs."""
    return _SECRET.sub("[secret]", text)


def configure(level: str, service: str) -> None:
    """Send all logging of this process, from this level on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # httpx2 logs every requested URL, and a webhook's URL may contain a secret.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
