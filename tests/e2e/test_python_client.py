"""The Python client against a fleet, over HTTP and over NATS: what it does is the same."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
import pyotp
import pytest

from aidevos.client import (
    ApiError,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    SecondFactorNeeded,
    Unauthenticated,
    Unreachable,
    connect,
    connect_sync,
)
from aidevos.contracts.data import Config
from services.objects.counter import Counter
from tests.support.servers import free_port
from tests.support.world import World

PASSWORD = "wheelbarrow at noon"
CALLER = ("objects:request", "counter:read", "counter:write")


class Book(msgspec.Struct):
    title: str
    price: int = 0


class Way(NamedTuple):
    """An entry point of the fleet."""

    world: World
    url: str

    def open(self, token: str | None = None) -> AbstractAsyncContextManager[Client]:
        return connect(self.url, token=token and token.removeprefix("Bearer "))


@pytest.fixture(params=["http", "nats"])
def way(request: pytest.FixtureRequest, world: World) -> Way:
    return Way(world, world.url if request.param == "http" else world.servers.nats_url("client"))


@pytest.fixture
async def client(way: Way) -> AsyncIterator[Client]:
    """A client whose user has registered and logged in."""
    name = f"u{secrets.token_hex(8)}"
    async with way.open() as client:
        await client.auth.register(name, f"{name}@example.org", PASSWORD)
        await client.auth.login(name, PASSWORD)
        yield client


class TestObjects:
    async def test_methods_are_called_as_the_class_declares_them_or_by_name(self, way: Way, new_id: str) -> None:
        async with way.open(way.world.token(*CALLER)) as client:
            assert await client.object(Counter, new_id).increment(2) == 2
            assert await client.object(Counter, new_id).increment(by=3) == 5
            assert await client.object("counter", new_id).increment(by=1) == 6
            assert await client.object(Counter, new_id).value() == 6
            assert await client.object(Counter, f"Grüße {new_id}").increment() == 1

    async def test_a_request_id_takes_effect_once(self, way: Way, new_id: str) -> None:
        async with way.open(way.world.token(*CALLER)) as client:
            answers = [await client.object(Counter, new_id, request_id="r").increment() for _ in range(3)]
            with pytest.raises(Invalid) as reused:
                await client.object(Counter, new_id, request_id="r").increment(by=7)

        assert answers == [1, 1, 1]
        assert reused.value.code == "request-id-reused"

    async def test_a_command_can_ask_for_a_version(self, way: Way, new_id: str) -> None:
        async with way.open(way.world.token(*CALLER)) as client:
            await client.object(Counter, new_id).increment()
            assert await client.object(Counter, new_id, if_match=1).increment() == 2
            with pytest.raises(PreconditionFailed):
                await client.object(Counter, new_id, if_match=1).increment()

    async def test_refusals_are_typed(self, way: Way, new_id: str) -> None:
        async with way.open(way.world.token(*CALLER)) as client:
            with pytest.raises(Invalid) as invalid:
                await client.object("counter", new_id).increment(by="two")
            with pytest.raises(NotFound) as unknown:
                await client.object("counter", new_id).nothing()
            async with asyncio.timeout(10):
                with pytest.raises(NotFound) as unserved:
                    await client.object("nobody", new_id).increment()
            with pytest.raises(Invalid):
                client.object("No type", new_id)
        async with way.open(way.world.token("objects:request")) as client:
            with pytest.raises(Forbidden) as forbidden:
                await client.object(Counter, new_id).increment()
        async with way.open("nonsense") as client:
            with pytest.raises(Unauthenticated):
                await client.object(Counter, new_id).increment()

        assert (invalid.value.field, unknown.value.code) == ("args.by", "unknown-method")
        assert (unserved.value.code, unserved.value.field) == ("unknown-type", "type")
        assert not forbidden.value.retryable


class TestAuth:
    async def test_a_session_begins_is_renewed_and_ends(self, client: Client) -> None:
        kept: list[str] = []
        client.auth.keep = lambda pair: kept.append(pair.refresh_token)
        before = client.auth.session
        assert before is not None

        me = await client.auth.me()
        renewed = await client.auth.refresh()

        assert (await client.auth.me()).user == me.user == before.user
        assert kept == [renewed.refresh_token] != [before.refresh_token]
        assert [session.current for session in await client.auth.sessions()] == [True]
        await client.auth.logout()
        assert client.auth.session is None
        with pytest.raises(Unauthenticated):
            await client.auth.me()

    async def test_an_access_token_that_was_refused_is_renewed_by_the_way(self, client: Client) -> None:
        session = client.auth.session
        assert session is not None
        head, _, tail = session.access_token.rpartition(".")
        broken = msgspec.structs.replace(session, access_token=f"{head}.{tail[::-1]}")

        client.auth.resume(broken)

        assert {me.user.id for me in await asyncio.gather(*(client.auth.me() for _ in range(5)))} == {session.user.id}

    async def test_a_second_factor_completes_the_login(self, client: Client) -> None:
        me = (await client.auth.me()).user
        totp = pyotp.TOTP((await client.auth.begin_totp(PASSWORD)).secret)
        codes = await client.auth.confirm_totp(totp.now())
        await client.auth.logout()

        with pytest.raises(SecondFactorNeeded) as needed:
            await client.auth.login(me.username, PASSWORD)
        assert needed.value.challenge is not None
        assert await client.auth.verify(needed.value.challenge, recovery_code=codes[0]) == me

    async def test_wrong_passwords_and_taken_names_are_refused(self, client: Client) -> None:
        me = (await client.auth.me()).user
        with pytest.raises(Unauthenticated):
            await client.auth.login(me.username, "another password")
        with pytest.raises(Conflict):
            await client.auth.register(me.username, f"x{me.username}@example.org", PASSWORD)


class TestData:
    async def test_items_are_typed_documents(self, client: Client) -> None:
        books = client.data.collection(f"c{secrets.token_hex(6)}", Book)
        await books.configure(Config(history=True, unique=["title"]))

        made = await books.create(Book("SICP", 40), id="sicp")
        with pytest.raises(Conflict):
            await books.create(Book("SICP again"), id="sicp")
        with pytest.raises(PreconditionFailed):
            await books.put("sicp", Book("SICP", 30), if_match=7)
        put = await books.put("sicp", Book("SICP", 30), if_match=made.version)
        patched = await books.patch("sicp", {"price": 20})
        patched = await books.patch("sicp", [{"op": "replace", "path": "/price", "value": 10}])

        assert (made.data, put.data, patched.data) == (Book("SICP", 40), Book("SICP", 30), Book("SICP", 10))
        assert (await books.get("sicp", version=1)).data.price == 40
        assert [version.version async for version in books.history("sicp")] == [4, 3, 2, 1]
        assert (await books.restore("sicp", 1)).data.price == 40
        assert (await books.config()).history
        await books.delete("sicp")
        with pytest.raises(NotFound):
            await books.get("sicp")
        with pytest.raises(NotFound):
            await books.put("sicp", Book("SICP"))
        with pytest.raises(NotFound):
            await books.get("no id!")
        with pytest.raises(Invalid):
            await books.create(Book("SICP"), id="no id!")

    async def test_a_search_goes_through_all_pages(self, client: Client) -> None:
        books = client.data.collection(f"c{secrets.token_hex(6)}", Book)
        await asyncio.gather(*(books.create(Book(f"b{number}", number)) for number in range(7)))

        found = books.find({"price": {"gte": 2}}, sort="-price", page_size=2)

        assert [item.data.price async for item in found] == [6, 5, 4, 3, 2]
        assert await books.count({"price": {"lt": 2}}) == 2
        listed = {entry.name: entry.count async for entry in client.data.collections()}
        assert listed[books.name] == 7
        await books.drop()
        with pytest.raises(NotFound):
            await anext(books.find())


class TestProjectsAndTasks:
    async def test_a_task_is_awaited(self, client: Client) -> None:
        project = await client.projects.create("Engine", settings={"a": 1})
        parts = client.data.collection(f"c{secrets.token_hex(6)}")
        await parts.create({"count": 4}, id="bolt")

        task = await client.tasks.create(project.id, "data.export", {"collection": parts.name})
        seen = [each.status async for each in client.tasks.progress(task.id)]
        done = await client.tasks.wait(task.id)

        assert seen[-1] == done.status == "succeeded"
        assert done.result["count"] == 1
        assert [each.id async for each in client.tasks.find(project.id, status="succeeded")] == [task.id]

    async def test_a_task_that_waits_is_changed_cancelled_and_queued_again(self, client: Client) -> None:
        project = await client.projects.create("Engine")
        task = await client.tasks.create(project.id, "nobodys", {"n": 1}, priority=3)

        assert (await client.tasks.patch(task.id, {"priority": 5})).priority == 5
        assert (await client.tasks.cancel(task.id)).status == "cancelled"
        assert (await client.tasks.wait(task.id)).status == "cancelled"
        with pytest.raises(Conflict):
            await client.tasks.cancel(task.id)
        assert (await client.tasks.retry(task.id)).status == "queued"
        await client.tasks.delete(task.id)
        with pytest.raises(NotFound):
            await client.tasks.get(task.id)

    async def test_projects_have_members(self, way: Way, client: Client) -> None:
        other = f"u{secrets.token_hex(8)}"
        user = await client.auth.register(other, f"{other}@example.org", PASSWORD)
        project = await client.projects.create("Engine", description="of the boat")

        await client.projects.set_member(project.id, user.id, "viewer")
        members = await client.projects.members(project.id)
        await client.projects.remove_member(project.id, user.id)
        renamed = await client.projects.patch(project.id, {"name": "Motor"})

        assert {member.user_id: member.role for member in members}[user.id] == "viewer"
        assert await client.projects.get(project.id) == renamed
        assert [found.name async for found in client.projects.find("Motor")] == ["Motor"]
        assert (await client.projects.delete(project.id)).status == "deleting"
        async with way.open(way.world.admin) as admin:
            assert (await admin.users.deactivate(user.id)).status == "deactivated"
            assert [each.id async for each in admin.users.find(other)] == [user.id]
            await admin.users.erase(user.id)


class TestEvents:
    async def test_events_come_as_they_happen_and_resume(self, client: Client) -> None:
        notes = client.data.collection(f"c{secrets.token_hex(6)}")
        await notes.create(0, id="n0")
        events = client.events(collection=notes.name)

        async with asyncio.timeout(20):
            following = asyncio.create_task(anext(events))
            while not following.done():
                # Until the stream is open, what happens isn't in it.
                await notes.put("n0", 0)
                await asyncio.wait([following], timeout=0.1)
            first = following.result()
            await events.aclose()
            await notes.create(1, id="n1")
            await notes.delete("n1")
            rest: list[Any] = []
            async for event in client.events(type="item", collection=notes.name, id="n1", after=first.position):
                rest.append(event)
                if len(rest) == 2:
                    break

        assert first.data["id"] == "n0"
        assert [(event.type, event.data["id"]) for event in rest] == [("item.created", "n1"), ("item.deleted", "n1")]
        assert rest[0].object_id.startswith("item:")


class TestSync:
    def test_methods_wait_and_iterators_iterate(self, way: Way, new_id: str) -> None:
        token = way.world.admin.removeprefix("Bearer ")
        with connect_sync(way.url, token=token) as client:
            value: int = client.object(Counter, new_id).increment(by=2)
            books = client.data.collection(f"c{new_id}", Book)
            for number in range(3):
                books.create(Book("a", number), id=f"b{number}")
            events = client.events(collection=books.name, after="0")

            assert value == 2
            assert client.object(Counter, new_id).increment(3) == 5
            assert client.object("counter", new_id).value() == 5
            assert sorted(item.data.price for item in books.find(page_size=2)) == [0, 1, 2]
            assert {next(events).type for _ in range(3)} == {"item.created"}
            events.close()
            with pytest.raises(NotFound):
                books.get("nothing")


class TestConnections:
    async def test_the_user_of_nats_may_stand_beside_the_url(self, world: World) -> None:
        own = world.servers.nats_url("client")
        user, _, password = own.partition("://")[2].rpartition("@")[0].partition(":")
        place = own.rpartition("@")[2]

        async with connect(f"nats://{place}", user=user, password=password, token=world.token(*CALLER)[7:]) as client:
            assert await client.object(Counter, "beside").value() >= 0
        with pytest.raises(Unreachable):
            async with connect(f"nats://{place}", user=user, password="wrong"):
                pass

    async def test_an_address_where_nothing_listens_is_unreachable(self) -> None:
        async with asyncio.timeout(10):
            with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
                async with connect(f"nats://127.0.0.1:{free_port()}", deadline=0.5):
                    pass
            async with connect(f"http://127.0.0.1:{free_port()}", deadline=0.5) as client:
                with pytest.raises(ApiError):
                    await client.auth.me()

    @pytest.mark.parametrize("url", ["fleet.test", "ftp://fleet.test", ""])
    async def test_other_addresses_are_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="is not the URL of a fleet"):
            async with connect(url):
                pass

    async def test_a_user_of_nats_is_no_login_over_http(self) -> None:
        with pytest.raises(ValueError, match=r"client\.auth\.login"):
            async with connect("http://fleet.test", user="ada", password="secret"):
                pass
