"""A process's reaction to lost events."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.client.reference import refer
from aidevos.process.stack import AccessControl, FleetConnection, background
from aidevos.security.credentials import ServiceCredential
from aidevos.security.keys import SigningKeys, ensure_signing_key, load_public_keys
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from aidevos.settings import load
from tests.support.callers import USER


class Objects:
    """Answers look-ups of sessions and users; only the session `s` is open."""

    def object(self, type: str, id: str, **options: Any) -> Any:
        return refer(type, id, self._call)

    async def _call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        return msgspec.json.encode({"session": id == "s", "user": USER}[type])

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        raise Failure("unavailable", "away")


@pytest.mark.parametrize("lost", [True, False])
async def test_a_process_whose_events_may_be_lost_looks_tokens_up_and_renews_its_own(
    tmp_path: Path, lost: bool
) -> None:
    ensure_signing_key(tmp_path)
    settings, bus, objects = load({}, home=tmp_path), MemoryBus(), Objects()
    bus.lost_before = time.time() - (60 if lost else 960)
    credential = ServiceCredential(settings, "objects")
    own = credential.authorization()
    issuer = TokenIssuer(SigningKeys(tmp_path), settings.public_url, lambda: time.time() - 120)
    live, ended = (f"Bearer {issuer.issue('ada', session=session)}" for session in ("s", "ended"))
    verifier = TokenVerifier(lambda: load_public_keys(tmp_path), settings.public_url)
    anything: Any = None
    fleet = FleetConnection(anything, objects, bus)  # type: ignore[arg-type]
    access = AccessControl(settings, fleet, verifier, credential)

    async with access.following():
        if lost:
            with pytest.raises(NotReady):
                access.admission.authenticate(live, "")
            with pytest.raises(Failure, match="the session has ended"):
                await resolve_when_ready(access.admission.authenticate, ended, "")
        assert (await resolve_when_ready(access.admission.authenticate, live, "")).subject == "ada"
        assert (credential.authorization() != own) is lost


async def test_what_fails_beside_a_host_is_started_again() -> None:
    runs: list[int] = []
    again = asyncio.Event()

    async def follow() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise KeyError("a bug")
        again.set()

    async with background(follow), asyncio.timeout(5):
        await again.wait()

    assert runs == [0, 1]
