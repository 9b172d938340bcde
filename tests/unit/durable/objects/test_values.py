"""External values are refused by name, or kept unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.durable.store import codec
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import examples, failure
from tests.support.objects import Tally

DEEP = 70
LONG = ("args.value." + "x" * 9000)[:256]
keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["$ref", "$id", "$db", "$set", "a.b", "", "_id", "0"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)


@given(st.dictionaries(keys, json_values, max_size=5))
def test_any_json_is_the_same_after_it_was_stored(value: dict[str, Any]) -> None:
    state = {"free": value}
    decoded = codec.decode(codec.encode(state))
    assert decoded == state
    assert msgspec.json.encode(decoded) == msgspec.json.encode(state)
    assert codec.encode(decoded) == codec.encode(state)


@examples(50)
@given(st.dictionaries(keys, json_values, max_size=5))
def test_any_json_comes_back_from_an_object_that_another_process_wrote(value: dict[str, Any]) -> None:
    async def write_and_read() -> Any:
        async with ObjectKit(Tally) as kit:
            await kit.call("tally", "a", "_create", state={"free": value})
            async with ObjectKit(Tally, store=kit.store) as successor:
                return (await successor.call("tally", "a", "everything"))["free"]

    assert asyncio.run(write_and_read()) == value


async def send(kit: ObjectKit, method: str, payload: bytes, content_type: str = "application/json") -> bytes:
    return await kit._dispatch(f"do.tally.a.{method}", payload, ADMIN, {"Content-Type": content_type})


@pytest.mark.parametrize(
    ("method", "payload", "code", "field"),
    [
        ("add", b'{"by": 9223372036854775808}', "invalid", "args.by"),
        ("add", b'{"by": -9223372036854775809}', "invalid", "args.by"),
        ("add", b'{"by": 1.5}', "invalid", "args.by"),
        ("add", b'{"by": "1"}', "invalid", "args.by"),
        ("add", b'{"by": null}', "invalid", "args.by"),
        ("add", b'{"by": 1, "also": 2}', "invalid", "args.also"),
        ("add", b"[1]", "invalid", "args"),
        ("add", b'{"by": 1', "bad-request", "args"),
        ("add", b"\xff\xfe", "bad-request", "args"),
        ("add", b"   ", "bad-request", "args"),
        ("put", b'{"value": 1}', "invalid", "args.key"),
        ("put", b'{"key": "k", "value": [{"a": 9223372036854775808}]}', "invalid", "args.value.0.a"),
        ("put", b'{"key": "k", "value": [{"a": 1e400}]}', "invalid", "args.value[0][...]"),
        ("put", b'{"key": "k", "value": {"x": {"a\\u0000b": 1}}}', "invalid", "args.value.x.a\\x00b"),
        ("put", b'{"key": "k", "value": {"\\ud800": 1}}', "bad-request", "args"),
        ("put", b'{"key": "k", "value": "\\ud800"}', "bad-request", "args"),
        ("put", b'{"key": "k", "value": ' + b"[" * DEEP + b"]" * DEEP + b"}", "invalid", "args.value" + ".0" * 64),
        ("put", b'{"key": "k", "value": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "invalid", "args"),
        ("put", b'{"key": "k", "value": ' + b"[" * 100_000, "invalid", "args"),
        ("_create", b'{"state": {"value": 9223372036854775808}}', "invalid", "args.state.value"),
        ("_create", b'{"state": {"free": {"a\\u0000": 1}}}', "invalid", "args.state.free.a\\x00"),
        ("put", b'{"key": "k", "value": {"' + b"x" * 9000 + b'": {"a": 9223372036854775808}}}', "invalid", LONG),
        ("_create", b'{"state": {"value": "x"}}', "invalid", "state.value"),
    ],
)
async def test_a_hazard_in_the_arguments_is_refused_by_name_and_changes_nothing(
    kit: ObjectKit, method: str, payload: bytes, code: str, field: str
) -> None:
    refused = await failure(send(kit, method, payload))
    assert (refused.code, refused.field) == (code, field)
    assert 400 <= refused.status <= 499
    assert len(refused.encode()) < 2000
    assert (Tally.turns, await kit.store.list_page("tally", "", 1)) == (0, [])


async def test_a_payload_of_another_kind_is_refused_and_messagepack_is_not(kit: ObjectKit) -> None:
    refused = await failure(send(kit, "add", b"by=1", "application/x-www-form-urlencoded"))
    assert (refused.code, refused.status, refused.field) == ("unsupported-media-type", 415, "Content-Type")
    reply = await send(kit, "add", msgspec.msgpack.encode({"by": 5}), "application/msgpack")
    assert msgspec.msgpack.decode(reply) == 5
    for payload in (b"\xc1", b"\x81\xa2by\xcf" + b"\xff" * 8, b"\x81\xa2\xff\xfe\x01"):
        assert (await failure(send(kit, "add", payload, "application/msgpack"))).status in (400, 422)
    assert await kit.call("tally", "a", "value") == 5


@pytest.mark.parametrize(
    ("hazard", "field"),
    [("integer", "state.free.hazard.a"), ("key", "state.free.hazard.a\\x00b"), ("text", "state.free.hazard.a")],
)
async def test_a_state_that_cannot_be_stored_is_logged_by_name_and_undone(
    hazard: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ObjectKit(Tally, strict=False) as kit:
        await kit.call("tally", "a", "add")
        refused = await failure(kit.call("tally", "a", "bury_key", hazard=hazard))
        assert (refused.code, refused.status) == ("internal", 500)
        assert f"tally:a.bury_key raised (error {refused.error_id})" in caplog.text
        assert f"the state of Tally can't be stored: {field}: " in caplog.text
        assert await kit.call("tally", "a", "add") == 2
        assert kit.store.documents["tally"]["a"]["state"]["free"] == {}


async def test_a_value_that_its_caller_may_nest_can_be_stored_somewhat_deeper(kit: ObjectKit) -> None:
    deep: Any = 1
    for _ in range(codec.MAX_DEPTH - 1):
        deep = [deep]
    assert await kit.call("tally", "a", "put", key="k", value=deep) == {"k": deep}
    await kit.call("tally", "a", "nest")
    async with ObjectKit(Tally, store=kit.store) as successor:
        assert (await successor.call("tally", "a", "everything"))["free"] == {"in": {"k": deep}}


async def test_a_state_cannot_be_nested_turn_by_turn_beyond_what_the_store_takes(kit: ObjectKit) -> None:
    async def nest_on() -> None:
        for _ in range(200):
            await kit.call("tally", "a", "nest")

    with pytest.raises(AssertionError, match=r"state\.free\.in\.in.* at most 80 levels deep"):
        await nest_on()
    assert await kit.call("tally", "a", "add") == 1


@pytest.mark.parametrize(
    ("subject", "code", "field"),
    [
        ("dop.0.nothing.a.add", "unknown-type", "type"),
        ("dop.0.tally.a.nothing", "unknown-method", "method"),
        ("dop.0.tally.a.add.more", "unknown-method", "method"),
        ("dop.0.tally.a", "unknown-method", "subject"),
        ("dop.0.tally.é.add", "invalid", "id"),
        (f"dop.0.tally.{'x' * 129}.add", "invalid", "id"),
        ("dop.63.tally.a.add", "invalid", "subject"),
        ("dop.x.tally.a.add", "invalid", "subject"),
    ],
)
async def test_a_subject_that_names_nothing_is_refused(kit: ObjectKit, subject: str, code: str, field: str) -> None:
    with pytest.raises(Failure) as refused:
        kit.router.dispatch(subject, b"", {}, ADMIN, lambda answer: None)
    assert (refused.value.code, refused.value.field) == (code, field)
    await kit.settle()
    assert kit.store.documents["tally"] == {}
