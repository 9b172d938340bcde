"""Webhooks in one process: the fate of deliveries, their bounds, and their deletion."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos import Failure, new_id
from aidevos.contracts.webhooks import WebhookInfo, delivery_id
from aidevos.durable.bus.port import Delivery
from aidevos.feeds.shown_events import parse_event
from aidevos.feeds.webhook_sender import WebhookResponse
from aidevos.security.keys import ensure_signing_key
from aidevos.security.permissions import Principal
from aidevos.settings import SettingsError, load
from aidevos.testing import SERVICE, ObjectKit
from services.events.fan_out import FanOut
from services.events.sends import Sends
from services.events.service import service as events
from services.events.subscriptions import Subscriptions, wants
from tests.support import account_kits
from tests.support.kits import failure, quiet
from tests.support.webhooks import webhook

DAY = 86_400.0
MAY = frozenset({"webhooks:self", "events:read"})
HOOK = "0190" + "b" * 28
# A time after the creation of the webhooks that `webhook` returns.
AFTER = "2026-11-02T00:00:00.000Z"


class Sender:
    """A fake network that gives the next of `outcomes` as the response, the last one for ever."""

    def __init__(self) -> None:
        self.outcomes: list[int | Failure] = [204]
        self.sent: list[str] = []
        self.takes = 0.0

    def check(self, url: str) -> None:
        if "private" in url:
            raise Failure("invalid", "not public", field="url")

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> WebhookResponse:
        await asyncio.sleep(self.takes)
        self.sent.append(headers["webhook-id"])
        outcome = self.outcomes[0] if len(self.outcomes) == 1 else self.outcomes.pop(0)
        if isinstance(outcome, Failure):
            raise outcome
        return WebhookResponse(outcome, b"")


class Owners:
    """A fake check of who may see an event."""

    def __init__(self) -> None:
        self.allowed: bool | Failure = True
        self.takes = 0.0

    async def show_event(self, user: str, key: str, delivery: Delivery) -> bytes | None:
        await asyncio.sleep(self.takes)
        return b"{}" if await self.may_see(user, key, None) else None

    async def may_see(self, user: str, key: str, event: Any) -> bool:
        if isinstance(self.allowed, Failure):
            raise self.allowed
        return self.allowed


@pytest.fixture
def owners() -> Owners:
    return Owners()


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
async def kit(tmp_path: Path, owners: Owners, sender: Sender) -> AsyncIterator[ObjectKit]:
    ensure_signing_key(tmp_path)
    settings = load({"AIDEVOS_MAX_WEBHOOKS": "2", "AIDEVOS_WEBHOOK_PAUSES": "10,100,1000"}, home=tmp_path)
    async with account_kits.kit_of(settings, events, owners=owners, sender=sender) as kit:
        yield kit


@pytest.fixture
async def ada(kit: ObjectKit, sender: Sender) -> Principal:
    id = new_id()
    person = {"username": "ada", "email": "ada@example.org", "password": "wheelbarrow at noon"}
    await kit.call("user", id, "register", **person, caller=Principal(""))
    return Principal(id, ("user",), MAY)


async def make(kit: ObjectKit, who: Principal, id: str = HOOK) -> Any:
    return await kit.call("webhook", id, "create", url="https://example.org/", events=["*"], caller=who)


def beginning(who: Principal, number: int = 1) -> dict[str, str]:
    event = {"subject": "event.counter.c.incremented", "event_id": f"counter:c:{number}", "event": "{}"}
    return {"webhook": HOOK, "owner": who.subject, **event}


async def begun(kit: ObjectKit, who: Principal, number: int = 1) -> str:
    id = delivery_id(HOOK, f"counter:c:{number}")
    await kit.call("delivery", id, "begin", **beginning(who, number), caller=SERVICE)
    return id


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def shown(kit: ObjectKit, id: str) -> Any:
    return await kit.call("delivery", id, "read")


async def hook(kit: ObjectKit) -> Any:
    return await kit.call("webhook", HOOK, "read")


async def test_an_event_that_comes_again_is_sent_once(kit: ObjectKit, sender: Sender, ada: Principal) -> None:
    await make(kit, ada)
    id = await begun(kit, ada)
    await kit.advance(1)
    await begun(kit, ada)
    await kit.advance(10 * DAY)

    assert sender.sent == [id]
    assert (await shown(kit, id))["status"] == "delivered"


@pytest.mark.parametrize("status", [204, 500])
async def test_the_times_of_an_attempt_agree_with_its_duration(
    kit: ObjectKit, sender: Sender, owners: Owners, ada: Principal, status: int
) -> None:
    await make(kit, ada)
    sender.outcomes, sender.takes, owners.takes = [status], 0.04, 0.06
    id = await begun(kit, ada)
    began = kit.clock.now()
    await kit.advance(1)
    await kit.advance(10 * DAY)

    delivery = await shown(kit, id)
    first, last = delivery["attempts"][0], delivery["attempts"][-1]
    assert first["seconds"] >= 0.04
    assert instant(first["at"]) >= began + 0.06 - 0.001
    assert instant(delivery["ended_at"]) == pytest.approx(instant(last["at"]) + last["seconds"], abs=0.002)


async def test_a_pause_begins_when_the_attempt_has_ended(
    kit: ObjectKit, sender: Sender, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda shortest, longest: shortest)
    await make(kit, ada)
    sender.outcomes, sender.takes = [500], 0.1
    id = await begun(kit, ada)
    await kit.advance(1)

    delivery = await shown(kit, id)
    (attempt,) = delivery["attempts"]
    pause = instant(delivery["next_attempt_at"]) - instant(attempt["at"])
    assert pause == pytest.approx(10.0 + attempt["seconds"], abs=0.003)


async def test_attempts_rest_longer_and_longer_until_the_last_has_failed(
    kit: ObjectKit, sender: Sender, ada: Principal
) -> None:
    await make(kit, ada)
    sender.outcomes = [500, Failure("unavailable", "no answer"), 301, 404]
    id = await begun(kit, ada)

    counts = []
    for seconds in (1, 8, 4, 90, 30, 900, 250, 100_000):
        await kit.advance(seconds)
        counts.append(len(sender.sent))

    assert counts == [1, 1, 2, 2, 3, 3, 4, 4]
    delivery = await shown(kit, id)
    assert (delivery["status"], delivery["reason"]) == ("failed", "the receiver responded with 404")
    tried = [(each["status"], each["error"]) for each in delivery["attempts"]]
    assert tried == [(500, ""), (None, "no answer"), (301, ""), (404, "")]
    assert set(sender.sent) == {id}


async def test_a_webhook_whose_deliveries_fail_for_days_is_disabled(
    kit: ObjectKit, sender: Sender, ada: Principal
) -> None:
    await make(kit, ada)
    sender.outcomes = [500]
    await begun(kit, ada, 1)
    await kit.advance(3 * DAY - 5)
    await begun(kit, ada, 2)
    await kit.advance(1)
    assert (await hook(kit))["active"]

    await kit.advance(50)

    assert (await hook(kit))["disabled_reason"] == "deliveries have failed for too long"
    on = await kit.call("webhook", HOOK, "patch", patch={"active": True}, caller=ada)
    assert (on["active"], on["disabled_reason"], on["failing_since"]) == (True, "", None)


async def test_one_that_arrives_in_between_begins_the_count_anew(
    kit: ObjectKit, sender: Sender, ada: Principal
) -> None:
    await make(kit, ada)
    sender.outcomes = [500, 500, 500, 500, 204, 500]
    await begun(kit, ada, 1)
    await kit.advance(2 * DAY)
    assert (await hook(kit))["failing_since"]
    await begun(kit, ada, 2)
    await kit.advance(2 * DAY)
    assert (await hook(kit))["failing_since"] is None
    await begun(kit, ada, 3)
    await kit.advance(2 * DAY)

    assert (await hook(kit))["active"]


async def test_nothing_is_sent_that_the_owner_may_not_see(
    kit: ObjectKit, sender: Sender, owners: Owners, ada: Principal
) -> None:
    await make(kit, ada)
    owners.allowed = False
    id = await begun(kit, ada)
    await kit.advance(1)

    assert (sender.sent, (await shown(kit, id))["status"]) == ([], "failed")


async def test_while_nobody_can_say_who_may_see_it_an_event_waits_and_no_attempt_counts(
    kit: ObjectKit, sender: Sender, owners: Owners, ada: Principal
) -> None:
    await make(kit, ada)
    owners.allowed = Failure("unavailable", "later")
    id = await begun(kit, ada)
    await kit.advance(600)
    assert ((await shown(kit, id))["status"], (await shown(kit, id))["tries"]) == ("pending", 0)

    owners.allowed = True
    await kit.advance(11)

    assert (await shown(kit, id))["status"] == "delivered"


async def test_the_log_goes_with_its_webhook(kit: ObjectKit, sender: Sender, ada: Principal) -> None:
    await make(kit, ada)
    ids = [await begun(kit, ada, number) for number in range(150)]
    await kit.advance(1)
    await kit.call("webhook", HOOK, "remove", caller=ada)
    await kit.settle()
    late = await begun(kit, ada, 151)
    await kit.advance(1)

    for id in (*ids, late):
        assert (await failure(shown(kit, id))).code == "not-found"
    assert (await failure(hook(kit))).code == "not-found"


async def test_a_webhook_can_be_removed_while_a_delivery_begins_an_attempt(
    kit: ObjectKit, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = asyncio.Event()

    @asynccontextmanager
    async def turn(self: Sends, webhook: str, owner: str) -> AsyncIterator[bool]:
        await swept.wait()
        yield True

    monkeypatch.setattr(Sends, "turn", turn)
    await make(kit, ada)
    id = await begun(kit, ada)
    kit.alarms.ring_due()
    await quiet()
    await kit.call("webhook", HOOK, "remove", caller=ada)
    # The delivery's attempt waits for a slot, and the webhook for the end of that attempt.
    await quiet()
    swept.set()

    async with asyncio.timeout(2):
        await kit.settle()
    assert (await failure(shown(kit, id))).code == "not-found"


async def test_a_user_has_no_more_webhooks_than_the_setting_says(kit: ObjectKit, ada: Principal) -> None:
    ids = [new_id() for _ in range(3)]
    for id in ids[:2]:
        await make(kit, ada, id)
    assert (await failure(make(kit, ada, ids[2]))).code == "conflict"
    await kit.call("webhook", ids[0], "remove", caller=ada)
    await kit.settle()

    await make(kit, ada, ids[2])
    assert (await failure(make(kit, ada, new_id()))).code == "conflict"


async def test_a_place_that_nothing_was_made_in_is_found_again(kit: ObjectKit, ada: Principal) -> None:
    for id in ("lost", "too"):
        await kit.call("webhook_holder", ada.subject, "reserve", id=id, caller=SERVICE)
    assert (await failure(make(kit, ada))).code == "conflict"
    kit.clock.advance(61)

    assert (await make(kit, ada))["active"]


async def test_what_is_kept_shows_no_secret(kit: ObjectKit, ada: Principal) -> None:
    secret = (await make(kit, ada))["secret"]
    rotated = (await kit.call("webhook", HOOK, "rotate_secret", caller=ada))["secret"]
    stored = repr((await kit.store.read("webhook", [HOOK]))[HOOK])

    for text in (secret, rotated):
        assert text.removeprefix("whsec_") not in stored
    assert secret != rotated
    assert "secret" not in await hook(kit)


async def test_a_private_address_is_no_ones_webhook(kit: ObjectKit, ada: Principal) -> None:
    await make(kit, ada)
    refused = await failure(
        kit.call("webhook", HOOK, "patch", patch={"url": "https://private.example.org/"}, caller=ada)
    )
    assert (refused.code, refused.field) == ("invalid", "args.patch.url")


async def test_a_stranger_may_not_tell_that_there_is_a_webhook(kit: ObjectKit, ada: Principal) -> None:
    await make(kit, ada)
    eve = Principal("eve", ("user",), MAY)
    stale = {"If-Match": '"77"'}
    for method, args in (("patch", {"patch": {}}), ("remove", {}), ("rotate_secret", {})):
        refused = await failure(kit.call("webhook", HOOK, method, **args, caller=eve, headers=stale))
        assert refused.code == "not-found"
        assert (
            await failure(kit.call("webhook", HOOK, method, **args, caller=ada, headers=stale))
        ).code == "precondition-failed"


def test_patterns_say_which_webhooks_want_an_event() -> None:
    hooks = Subscriptions(
        [
            webhook("all", "*", "item.created"),
            webhook("items", "item.*"),
            webhook("made", "item.created", "task.created"),
            webhook("off", "*", active=False),
        ]
    )

    def found(type: str, name: str) -> list[str]:
        return sorted(each.id for each in hooks.candidates(type, name))

    assert found("item", "created") == ["all", "items", "made"]
    assert found("item", "updated") == ["all", "items"]
    assert found("task", "created") == ["all", "made"]
    assert found("user", "deleted") == ["all"]


def event(type: str, **data: Any) -> Any:
    document = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "time": AFTER, "datacontenttype": "j"}
    return parse_event(f"event.{type}.x.created", msgspec.json.encode(document | {"data": data}))


def test_collections_and_projects_narrow_what_has_one() -> None:
    narrow = webhook("n", "*", collections=["books"], projects=["p1"])
    book = {"collection": "books", "id": "i", "version": 1}

    assert wants(narrow, event("item", **book))
    assert not wants(narrow, event("item", **book | {"collection": "others"}))
    assert wants(narrow, event("task", project="p1"))
    assert not wants(narrow, event("task", project="p2"))
    assert not wants(narrow, event("project"))
    assert wants(narrow, event("counter"))
    assert wants(webhook("w", "*"), event("item", **book))


def item_event(number: int = 1) -> Delivery:
    data = {"collection": "books", "id": "i", "version": 1, "owner": "ada", "incarnation": "x"}
    document = {"specversion": "1.0", "id": "e", "source": "s", "type": "item.created", "time": AFTER}
    payload = msgspec.json.encode(document | {"datacontenttype": "j", "data": data})
    return Delivery("event.item.x.created", payload, f"item:x:{number}", attempt=50)


class ObjectCaller:
    """A fake fleet; deliveries of the webhook `down` can't be begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.buried: list[Any] = []
        self.down = ""

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> None:
        if args["webhook"] == self.down:
            raise Failure("unavailable", "down")
        self.begun.append(id)

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        self.buried.append(msgspec.msgpack.decode(payload)["letter"])
        return b"null"


def fan_out(outside: Any, owners: Any, *webhooks: WebhookInfo) -> FanOut:
    made: Any = FanOut(None, outside, owners)  # type: ignore[arg-type]
    made._webhooks = Subscriptions(webhooks)
    return made  # type: ignore[no-any-return]


async def test_an_event_isnt_done_before_all_its_deliveries_have_begun(owners: Owners) -> None:
    outside = ObjectCaller()
    outside.down = "b"
    fan = fan_out(outside, owners, webhook("a", "item.*"), webhook("b", "*"), webhook("c", "task.*"))

    assert (await failure(fan.handle(item_event()))).code == "unavailable"
    assert outside.begun == [delivery_id("a", "item:x:1")]
    outside.down = ""
    await fan.handle(item_event())
    assert outside.begun[1:] == [delivery_id("a", "item:x:1"), delivery_id("b", "item:x:1")]


async def test_a_poison_event_becomes_a_letter_for_each_webhook_that_begins_its_delivery(owners: Owners) -> None:
    outside = ObjectCaller()
    fan = fan_out(outside, owners, webhook("a", "item.*"), webhook("b", "*"))
    await fan.bury(item_event(), Failure("internal", "oh"))

    assert [(each["source"], each["subject"], each["code"]) for each in outside.buried] == [
        (f"webhook:{id}", f"do.delivery.{delivery_id(id, 'item:x:1')}.begin", "internal") for id in ("a", "b")
    ]
    args = msgspec.json.decode(outside.buried[0]["payload"])
    assert set(args) == {"webhook", "owner", "subject", "event_id", "event"}


async def test_what_webhooks_bring_about_is_for_none(owners: Owners) -> None:
    outside = ObjectCaller()
    fan = fan_out(outside, owners, webhook("a", "*", "webhook.*", "delivery.*"))
    for type in ("webhook", "delivery"):
        await fan.handle(item_event()._replace(subject=f"event.{type}.x.used"))

    assert outside.begun == []


@pytest.mark.parametrize("text", ["x", "0", "-1", "5,,x", "1e9", ",".join(["1"] * 51)])
def test_pauses_are_numbers_of_seconds(text: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_WEBHOOK_PAUSES"):
        load({"AIDEVOS_WEBHOOK_PAUSES": text})


def test_the_log_is_kept_for_longer_than_deliveries_are_tried() -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_DELIVERY_AGE"):
        load({"AIDEVOS_DELIVERY_AGE": "3600"})


async def test_of_an_event_that_its_owner_may_not_see_a_webhook_keeps_nothing(owners: Owners) -> None:
    outside = ObjectCaller()
    owners.allowed = False
    await fan_out(outside, owners, webhook("a", "*")).handle(item_event())

    assert outside.begun == []


@pytest.mark.parametrize(
    ("method", "args"), [("fail", {"at": 1.0}), ("recover", {}), ("disable", {"reason": "late"}), ("erase", {})]
)
async def test_what_comes_after_a_webhook_s_end_makes_no_other_one(
    kit: ObjectKit, ada: Principal, method: str, args: dict[str, Any]
) -> None:
    await make(kit, ada)
    await kit.call("webhook", HOOK, "remove", caller=ada)
    await kit.settle()

    await kit.call("webhook", HOOK, method, caller=SERVICE, **args)

    assert kit.store.documents["webhook"][HOOK]["deleted"]
