"""Mail while its server is down and processes die: mail still arrives, and no token is left at rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pymongo
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from tests.support.http import http_client
from tests.support.logins import Person, bearer, logged_in, login
from tests.support.mails import SmtpServer, token_in
from tests.support.world import ACCOUNTS, World, Worlds

OTHER = "another wheelbarrow"
WITHIN = 20.0


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    server = SmtpServer()
    yield server
    await server.stop()


@pytest.fixture
def world(worlds: Worlds, smtp: SmtpServer) -> Iterator[World]:
    """Start services with a mail server for this test alone."""
    mail = {"AIDEVOS_SMTP_URL": smtp.url, "AIDEVOS_MAIL_FROM": "Fleet <fleet@example.org>"}
    with worlds.alone(services=ACCOUNTS, **mail) as world:
        yield world


async def test_mail_waits_for_the_mail_server_over_a_kill_and_leaves_no_token_behind(
    world: World, smtp: SmtpServer, person: Person
) -> None:
    async with http_client(base_url=world.url, timeout=30) as http:
        mine = await logged_in(http, person)
        assert (await http.post("/auth/password/reset", json={"email": person.email})).status_code == 202
        world.restart("authentication")
        await wait_until_restarted(http, mine)
        before = at_rest(world)
        await smtp.start()
        async with asyncio.timeout(WITHIN):
            while len(smtp.taken) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        messages = smtp.messages
        tokens = [token_in(message) for message in messages]
        resets = next(token_in(message) for message in messages if "password" in message["Subject"])
        done = await http.post("/auth/password/reset/confirm", json={"token": resets, "new_password": OTHER})
        again = await login(http, person.username, OTHER)

    assert (done.status_code, again.status_code) == (200, 200)
    # The notice of the new password may have come too.
    assert smtp.recipients[:2] == [mine["user"]["email"]] * 2
    assert {message["From"] for message in messages} == {"Fleet <fleet@example.org>"}
    stored = before + at_rest(world)
    assert mine["user"]["id"].encode() in stored
    for token in tokens:
        assert token.encode() not in stored
        assert token.rpartition(".")[2].encode() not in stored


async def wait_until_restarted(http: httpx2.AsyncClient, pair: Any) -> None:
    """Return once the restarted service answers."""
    async with asyncio.timeout(WITHIN):
        while (await http.get("/auth/me", headers=bearer(pair))).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def at_rest(world: World) -> bytes:
    """Return every document of every collection, as MongoDB stores it."""
    with pymongo.MongoClient[Any](world.servers.mongo_url) as client:
        found = client.get_database(world.database, CodecOptions(document_class=RawBSONDocument))
        return b"".join(document.raw for name in found.list_collection_names() for document in found[name].find())
