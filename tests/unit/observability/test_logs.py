"""The contents of a process's log, and the values that must stay out of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx2
import pytest

from aidevos.observability import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restore this process's logging configuration after the test."""
    client = logging.getLogger("httpx2")
    levels = logging.root.level, client.level
    handlers = logging.root.handlers.copy()
    # `configure` closes the handlers that it replaces.
    logging.root.handlers.clear()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(levels[0])
    client.setLevel(levels[1])


def test_the_url_of_a_request_that_leaves_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "events")

    transport = httpx2.MockTransport(lambda request: httpx2.Response(204))
    with httpx2.Client(transport=transport) as client:
        client.post("https://example.org/hooks/known-to-its-receiver-alone")
    logging.getLogger("aidevos").info("sent")

    logged = capsys.readouterr().err
    assert "sent" in logged
    assert "known-to-its-receiver-alone" not in logged
