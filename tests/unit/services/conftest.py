"""Settings of a service under test, with a signing key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aidevos.security.keys import ensure_signing_key
from aidevos.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Password hashes are as cheap as can be: what they cost is tested beside the hashing."""
    ensure_signing_key(tmp_path)
    return msgspec.structs.replace(load({}, home=tmp_path), password_memory=64, password_time=1)
