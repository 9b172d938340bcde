"""Values that are nearly always cached: a hit costs nothing, and concurrent misses share one look-up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.access.authenticator import CallAuthenticator, trusted_headers
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.security.access import Change
from aidevos.security.permissions import ANONYMOUS, Principal
from tests.support.callers import API_KEY, DAY, NOW, World
from tests.support.kits import failure, quiet

ENDS = NOW + 2 * DAY
SHOWN = f"ApiKey {API_KEY.text}"


class CountingWorld(World):
    """Counts the look-ups of a key; with `change`, the key is invalidated before the first answer arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet.key_ends = ENDS
        self.look_ups = 0
        self.change = False
        ask = self.fleet.request

        async def request(subject: str, payload: bytes, **options: Any) -> bytes:
            self.look_ups += 1
            await asyncio.sleep(0)
            if self.change and self.look_ups == 1:
                asyncio.get_running_loop().call_soon(self.admission.invalidate, API_KEY.id, NOW)
            return await ask(subject, payload, **options)

        self.fleet.request = request  # type: ignore[method-assign]

    async def caller(self, authorization: str = SHOWN) -> Principal:
        return await resolve_when_ready(self.admission.authenticate, authorization, "")


@pytest.fixture
def world() -> CountingWorld:
    return CountingWorld()


def test_what_is_known_is_said_without_giving_way(world: CountingWorld) -> None:
    saying = world.caller(world.token())
    with pytest.raises(StopIteration) as said:
        saying.send(None)
    assert said.value.value.subject == "ada"


async def test_a_key_that_many_show_at_once_is_looked_up_once(world: CountingWorld) -> None:
    callers = await asyncio.gather(*(world.caller() for _ in range(5)))

    assert {caller.key for caller in callers} == {API_KEY.id}
    assert world.admission.authenticate(SHOWN, "").key == API_KEY.id
    assert world.look_ups == 1


async def test_a_refused_key_is_refused_to_all_who_wait_and_looked_up_anew_later(world: CountingWorld) -> None:
    world.fleet.key_ends = 0.0
    refused = await asyncio.gather(*(failure(world.caller()) for _ in range(3)))
    world.fleet.key_ends = ENDS

    assert {each.code for each in refused} == {"unauthenticated"}
    assert world.look_ups == 1
    assert (await world.caller()).key == API_KEY.id


async def test_a_key_whose_owner_may_do_nothing_is_looked_up_once_for_each_use(world: CountingWorld) -> None:
    world.verifier.change_access("ada", Change(NOW, 8, (), active=False))
    async with asyncio.timeout(5):
        assert (await failure(world.caller())).code == "unauthenticated"
        assert (await failure(world.caller())).code == "unauthenticated"
    assert world.look_ups == 2


async def test_a_look_up_that_a_change_has_overtaken_is_made_again(world: CountingWorld) -> None:
    world.change = True
    assert (await world.caller()).key == API_KEY.id
    assert world.look_ups == 2


@pytest.mark.parametrize("changed", ["parent", "grandparent"])
async def test_a_key_is_looked_up_again_when_one_has_changed_that_made_it(world: CountingWorld, changed: str) -> None:
    world.fleet.grant = world.fleet.grant | {"parents": ["parent", "grandparent"]}
    await world.caller()
    world.admission.invalidate("another", NOW)
    await world.caller()
    assert world.look_ups == 1

    world.admission.invalidate(changed, NOW)
    await world.caller()
    assert world.look_ups == 2


async def test_what_can_not_be_a_key_is_refused_at_once(world: CountingWorld) -> None:
    with pytest.raises(Failure, match="typing mistake"):
        world.admission.authenticate(SHOWN[:-1], "")
    assert world.look_ups == 0


class Limits:
    """Fake rate limits that record the admitted callers."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, str, str, int]] = []
        self.asking: asyncio.Task[None] | None = None

    def price_page(self, items: int) -> int:
        return 10 * items

    def spend(self, caller: Principal, address: str, group: str, cost: int) -> None:
        if self.asking is not None and not self.asking.done():
            raise NotReady(self.asking)
        self.spent.append((caller.subject, address, group, cost))


def seven_items(message: Any, headers: Any) -> int:
    return 7


def message(subject: str, reply: str, **headers: str) -> Any:
    return SimpleNamespace(subject=subject, reply=reply, data=b"{}", headers=headers)


@pytest.mark.parametrize(
    ("subject", "reply", "spent"),
    [
        ("dop.7.counter.c.increment", "_INBOX.x", [("ada", "", "counter", 70)]),
        ("query.counter.list", "_INBOX.x", [("ada", "", "counter", 70)]),
        ("dop.7.counter.c.increment", "", [("ada", "", "counter", 70)]),
        ("dop.7.counter.c.increment", "_INBOX_gateway.x", []),
        ("query.counter.list", "_INBOX_gateway.x", []),
    ],
)
def test_only_what_comes_through_the_gateway_passes_without_a_limit(
    world: CountingWorld, subject: str, reply: str, spent: list[Any]
) -> None:
    limits: Any = Limits()
    sent = message(subject, reply, Authorization=world.token())

    door = CallAuthenticator(world.admission, limits, lambda subject: False, seven_items)
    assert door.admit(sent, sent.headers).subject == "ada"
    assert limits.spent == spent


def test_an_open_subject_needs_no_credential_but_judges_one_that_is_shown(world: CountingWorld) -> None:
    limits: Any = Limits()
    door = CallAuthenticator(world.admission, limits, lambda subject: subject == "query.news.all", seven_items)

    assert door.admit(message("query.news.all", "_INBOX.x"), {}) == ANONYMOUS
    for subject, headers in (("query.other.all", {}), ("query.news.all", {"Authorization": "Bearer x.y.z"})):
        with pytest.raises(Failure, match=r"token|Authorization"):
            door.admit(message(subject, "_INBOX.x"), headers)
    assert limits.spent == [("", "", "news", 70)]


async def test_who_waits_for_a_limit_is_let_in_and_counted_once(world: CountingWorld) -> None:
    limits: Any = Limits()
    gate = asyncio.Event()
    limits.asking = asyncio.create_task(gate.wait())
    sent = message("query.counter.list", "_INBOX.x", Authorization=world.token())
    door = CallAuthenticator(world.admission, limits, lambda subject: False, seven_items)
    admitted = asyncio.create_task(resolve_when_ready(door.admit, sent, sent.headers))
    await quiet()
    assert not admitted.done()
    gate.set()

    assert (await admitted).subject == "ada"
    assert limits.spent == [("ada", "", "counter", 70)]


@pytest.mark.parametrize("header", ["Client-Address", "Call-Chain"])
@pytest.mark.parametrize(("reply", "trusted"), [("_INBOX_gateway.x", True), ("_INBOX.x", False), ("", False)])
def test_only_the_fleet_is_believed_about_an_address_and_a_call_chain(header: str, reply: str, trusted: bool) -> None:
    headers = trusted_headers(message("dop.7.counter.c.increment", reply, **{header: "value"}))
    assert (header in headers) == trusted
