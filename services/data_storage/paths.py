"""Paths in a document, as callers spell them."""

from __future__ import annotations


def split(path: str) -> tuple[str, ...]:
    """The names of a dotted path."""
    return tuple(path.split("."))
