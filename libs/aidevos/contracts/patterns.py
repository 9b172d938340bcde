"""Patterns of values, as msgspec and JSON Schema take them: they search, so a pattern says where it ends."""

from __future__ import annotations


def whole(pattern: str) -> str:
    """For values that match from end to end. Python's `$` alone would let one line break follow."""
    return rf"^{pattern}$(?!\n)"
