"""A serializer of JSON lines for Schemathesis, registered for the modules that import this one."""

from __future__ import annotations

from typing import Any

import msgspec
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def encode_lines(context: Any, value: Any) -> bytes:
    """Return each value of a list as a line of JSON, and any other value as a single line."""
    return b"\n".join(map(msgspec.json.encode, value if isinstance(value, list) else [value]))
