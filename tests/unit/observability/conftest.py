"""The logging of this process, restored after each test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from aidevos.observability import logs
from aidevos.settings import Settings

Configure = Callable[..., None]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Return `logs.configure` with these settings, for a service that may be named. All is undone after the test."""
    levels = {name: logging.getLogger(name).level for name in (None, "httpx2", "quiet", "aidevos.durable")}
    handlers, hook = logging.root.handlers.copy(), sys.excepthook
    # `configure` closes the handlers that it replaces.
    logging.root.handlers.clear()
    yield lambda service="gateway", context=dict, **settings: logs.configure(Settings(**settings), service, context)
    logging.captureWarnings(False)
    logging.root.handlers[:], sys.excepthook = handlers, hook
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
