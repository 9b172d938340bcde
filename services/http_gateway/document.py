"""A served description of the API, encoded once per change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any

import msgspec


class Document:
    """The cached result of `render`, rebuilt whenever `generation` returns another value.

    `render` takes True if the document should include internal types.
    """

    def __init__(self, render: Callable[[bool], dict[str, Any]], generation: Callable[[], Hashable]) -> None:
        self._render = render
        self._generation = generation
        self._rendered: dict[bool, tuple[Hashable, bytes, str]] = {}

    def current(self, internal: bool = False) -> tuple[bytes, str]:
        """Return the document as JSON and its entity tag."""
        latest = self._generation()
        rendered = self._rendered.get(internal)
        if rendered is None or rendered[0] != latest:
            encoded = msgspec.json.encode(self._render(internal))
            tag = f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'
            rendered = self._rendered[internal] = latest, encoded, tag
        return rendered[1:]
