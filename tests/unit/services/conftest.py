"""Settings of a service under test, with a signing key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aidevos.security.keys import ensure_signing_key
from aidevos.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with the cheapest password hashes; other tests cover the cost of hashing."""
    ensure_signing_key(tmp_path)
    return msgspec.structs.replace(load({}, home=tmp_path), password_memory=64, password_time=1)
