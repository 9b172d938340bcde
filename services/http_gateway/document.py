"""A description of the API as it is served: encoded once for each change of what it describes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

import msgspec

from .openapi_parts import Json


class Document:
    """What `render` makes, as long as `generation` is the same."""

    def __init__(self, render: Callable[[], Json], generation: Callable[[], Hashable]) -> None:
        self._render = render
        self._generation = generation
        self._rendered: Hashable = object()
        self._current = (b"", "")

    def current(self) -> tuple[bytes, str]:
        """The document as JSON, and its entity tag."""
        latest = self._generation()
        if self._rendered != latest:
            encoded = msgspec.json.encode(self._render())
            self._current = encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'
            self._rendered = latest
        return self._current
