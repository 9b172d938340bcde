"""The signing keys in a process that can only read them, as in a pod: their owner replaces them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aidevos.security import keys
from aidevos.settings import load
from services.authentication.keys import _maintain


def test_keys_that_can_only_be_read_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.ensure_signing_key(tmp_path)
    settings = load({}, home=tmp_path, key_age=0.001)
    before = keys.load_ring(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        kept = _maintain(settings)

    replaced = _maintain(settings)

    assert kept == before
    assert len(replaced) > len(before)
