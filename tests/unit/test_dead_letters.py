"""Dead letters: buried once however often, kept by their sender until then, and shown without what is secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, command, services
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.durable.dead_letters import bury
from aidevos.settings import load
from aidevos.testing import SERVICE, ObjectKit
from services.events.bootstrap import build
from tests.kits import failure, quiet, until
from tests.objects import Tally


class VaultState(msgspec.Struct):
    opened: int = 0


class Vault(BaseDurableObject[VaultState], type="vault"):
    @command(allow=services(), confidential=True)
    async def unlock(self, word: str) -> None:
        if word != "sesame":
            raise Failure("forbidden", "this is another vault's word")
        self.state.opened += 1

    @command(allow=services())
    async def pass_on(self, id: str, word: str) -> None:
        self.tell("vault", id, "unlock", word=word)


class AuditSink(BaseDurableObject[VaultState], type="audit"):
    @command(allow=services())
    async def record(
        self,
        at: float,
        actor: str,
        action: str,
        target: str,
        outcome: str,
        reason: str,
        address: str,
        session: str,
    ) -> None:
        AuditSink.actions.append((actor, action, target, outcome))

    actions: list[tuple[str, ...]] = []  # noqa: RUF012


@pytest.fixture
async def letters(tmp_path: Path) -> AsyncIterator[ObjectKit]:
    AuditSink.actions = []
    types = build(load({}, home=tmp_path))
    async with ObjectKit(Tally, Vault, AuditSink, *types) as kit:
        yield kit


def letter(id: str = "l1", **changed: Any) -> Letter:
    made = Letter(
        id=id,
        kind="tell",
        source="tally:a",
        subject="do.tally.b.add",
        payload=b'{"by": 3}',
        code="invalid",
        detail="no",
        attempts=2,
        at=1_800_000_000.0,
    )
    return msgspec.structs.replace(made, **changed)


async def listed(kit: ObjectKit, **args: Any) -> list[dict[str, Any]]:
    page = await kit.query("dead_letter", "search", args)
    return list(page["items"])


async def test_a_letter_is_shown_with_what_would_be_sent(letters: ObjectKit) -> None:
    await bury(letters, letter())
    shown = await letters.call("dead_letter", "l1", "read")
    assert shown["args"] == {"by": 3}
    assert (shown["kind"], shown["status"], shown["source"]) == ("tell", "dead", "tally:a")
    assert (shown["code"], shown["detail"], shown["attempts"]) == ("invalid", "no", 2)
    assert shown["at"] == "2027-01-15T08:00:00.000Z"
    assert await listed(letters) == [shown | {"args": None}]


async def test_a_letter_that_is_buried_again_is_the_same_letter(letters: ObjectKit) -> None:
    await bury(letters, letter())
    await bury(letters, letter())
    await bury(letters, letter(attempts=7, detail="other"))
    assert [item["attempts"] for item in await listed(letters)] == [2]


async def test_a_letter_that_was_deleted_is_not_buried_again(letters: ObjectKit) -> None:
    await bury(letters, letter())
    await letters.call("dead_letter", "l1", "remove")
    await bury(letters, letter(attempts=7))
    assert await listed(letters) == []
    assert (await failure(letters.call("dead_letter", "l1", "read"))).code == "not-found"


async def test_deleting_is_in_the_security_log(letters: ObjectKit) -> None:
    await bury(letters, letter())
    await letters.call("dead_letter", "l1", "remove")
    await letters.settle()
    assert AuditSink.actions == [("admin", "dead_letter.deleted", "l1", "success")]


async def test_a_payload_is_encrypted_at_rest(letters: ObjectKit) -> None:
    await bury(letters, letter(payload=b'{"word": "sesame"}'))
    await letters.settle()
    assert "sesame" not in repr(letters.store.documents["dead_letter"])
    assert (await letters.call("dead_letter", "l1", "read"))["args"] == {"word": "sesame"}


async def test_arguments_of_a_confidential_method_are_shown_to_nobody(letters: ObjectKit) -> None:
    await letters.call("vault", "a", "pass_on", {"id": "b", "word": "tulip"}, caller=SERVICE)
    await letters.settle()
    (item,) = await listed(letters)
    assert (item["subject"], item["code"], item["confidential"]) == ("do.vault.b.unlock", "forbidden", True)
    assert (await letters.call("dead_letter", item["id"], "read"))["args"] is None


@pytest.mark.parametrize("payload", [b"", b"no json", b"[" * 100_000], ids=["empty", "no JSON", "deep"])
async def test_a_payload_that_cant_be_read_is_a_letter_all_the_same(letters: ObjectKit, payload: bytes) -> None:
    await bury(letters, letter(payload=payload))
    assert (await letters.call("dead_letter", "l1", "read"))["args"] is None


async def test_letters_are_found_by_kind_source_and_status_by_time(letters: ObjectKit) -> None:
    for number, kind in enumerate(("event", "tell", "alarm"), 1):
        await bury(letters, letter(f"l{number}", kind=kind, source=f"tally:{kind}", at=1_800_000_000.0 + number))
    assert [item["id"] for item in await listed(letters)] == ["l3", "l2", "l1"]
    assert [item["id"] for item in await listed(letters, sort="at")] == ["l1", "l2", "l3"]
    assert [item["id"] for item in await listed(letters, kind="alarm")] == ["l3"]
    assert [item["id"] for item in await listed(letters, source="tally:tell")] == ["l2"]
    assert await listed(letters, status="replayed") == []


async def test_a_letter_goes_when_it_is_too_old_and_not_before(letters: ObjectKit) -> None:
    await bury(letters, letter())
    letters.clock.advance(30 * 86_400 - 1)
    await letters.call("dead_letter", "l1", "expire", caller=SERVICE)
    assert len(await listed(letters)) == 1
    letters.clock.advance(1)
    await letters.call("dead_letter", "l1", "expire", caller=SERVICE)
    assert await listed(letters) == []


class Away(ObjectKit):
    """Its letters can't be buried while it is `away`."""

    away = True

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        if subject.startswith("do.dead_letter.") and self.away:
            raise Failure("unavailable", "away on purpose")
        return await super().request(subject, payload, **options)


async def test_what_cant_be_buried_stays_in_the_outbox() -> None:
    async with Away(Tally) as kit:
        await kit.call("tally", "a", "tell_other", {"id": "b", "method": "put"})
        await quiet()
        assert len(kit.store.documents["tally"]["a"]["outbox"]) == 1
        kit.away = False
        await until(lambda: kit.letters)
        await kit.settle()
        assert kit.store.documents["tally"]["a"]["outbox"] == {}


def test_what_a_letter_is_about_gives_its_id() -> None:
    assert letter_id("tally:a", "7") == letter_id("tally:a", "7") != letter_id("tally:a", "8")
