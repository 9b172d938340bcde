"""Services of their own for tests that change what concerns everybody: the keys, and who is an administrator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.logins import KEY_NOTICE, REFRESH_GRACE
from tests.support.world import World, Worlds


@pytest.fixture(scope="package")
def world(worlds: Worlds) -> Iterator[World]:
    """Start services with one administrator and little patience."""
    patience = {"AIDEVOS_KEY_NOTICE": str(KEY_NOTICE), "AIDEVOS_REFRESH_GRACE": str(REFRESH_GRACE)}
    with worlds.alone(**patience) as world:
        yield world
