"""Regular expressions for values. msgspec and JSON Schema search, so a pattern must anchor itself."""

from __future__ import annotations


def whole(pattern: str) -> str:
    """Return a pattern that matches the whole value; Python's `$` alone would allow a final line break."""
    return rf"^{pattern}$(?!\n)"
