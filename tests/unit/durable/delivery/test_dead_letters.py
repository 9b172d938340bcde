"""Dead letters: buried once despite retries, kept by their sender until then, and shown without secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, command, permission, query, services
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.durable.delivery.dead_letters import bury
from aidevos.security.delegations import DelegatedCall, DelegationVerifier, is_delegation
from aidevos.security.keys import ensure_signing_key
from aidevos.security.permissions import Principal
from aidevos.security.service_keys import VerificationKeys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import load
from aidevos.testing import SERVICE, ObjectKit
from services.events.service import service as events
from tests.support.kits import chosen, failure, quiet, until
from tests.support.objects import Tally


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


class Whose(msgspec.Struct):
    seen: list[str] = []


class Person(BaseDurableObject[Whose], type="user"):
    """A fake of the users' own type."""

    role = "admin"
    refuses = True

    @query(allow=services())
    async def show(self) -> dict[str, Any]:
        if Person.role == "":
            raise Failure("not-found", "there is no such user")
        moment = {"created_at": "", "updated_at": ""}
        return {"id": self.id, "username": "ada", "email": None, "full_name": "", "roles": [Person.role]} | {
            "status": "active",
            "email_verified": True,
            "settings": {},
            "version": 1,
            **moment,
        }

    @command(allow=permission("people:note"))
    async def note(self, text: str = "") -> None:
        if text == "refused" and Person.refuses:
            raise Failure("conflict", "not this one")
        self.state.seen.append(f"{self.caller.subject} {text}".strip())

    @query(allow=permission("people:note"))
    async def seen(self) -> list[str]:
        return self.state.seen


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
    ensure_signing_key(tmp_path)
    settings = load({}, home=tmp_path)
    async with ObjectKit(Tally, Vault, AuditSink, Person, events, settings=settings, owners=None) as kit:
        tokens = TokenVerifier(VerificationKeys(tmp_path), settings.public_url)
        kit.judge = partial(judge, tokens)
        yield kit


def judge(tokens: TokenVerifier, authorization: str, subject: str, payload: bytes, request_id: str) -> Principal:
    """Verify a delegation as a host does."""
    if is_delegation(authorization):
        return DelegationVerifier(tokens).verify(authorization, DelegatedCall(subject, payload, request_id))
    return tokens.verify(authorization)


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
    page = await kit.query("dead_letter", "search", **args)
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
    another = msgspec.to_builtins(letter(attempts=8))
    await letters.call("dead_letter", "l1", "bury", letter=another, caller=SERVICE)
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
    await letters.call("vault", "a", "pass_on", id="b", word="tulip", caller=SERVICE)
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
    """A kit whose letters can't be buried while it is `away`."""

    away = True

    async def request(self, subject: str, payload: bytes, **options: Any) -> bytes:
        if subject.startswith("do.dead_letter.") and self.away:
            raise Failure("unavailable", "away on purpose")
        return await super().request(subject, payload, **options)


async def test_what_cant_be_buried_stays_in_the_outbox() -> None:
    async with Away(Tally) as kit:
        await kit.call("tally", "a", "tell_other", id="b", method="put")
        await quiet()
        assert len(kit.store.documents["tally"]["a"]["outbox"]) == 1
        kit.away = False
        await until(lambda: kit.letters)
        await kit.settle()
        assert kit.store.documents["tally"]["a"]["outbox"] == {}


def test_what_a_letter_is_about_gives_its_id() -> None:
    assert letter_id("tally:a", "7") == letter_id("tally:a", "7") != letter_id("tally:a", "8")


ADA = Principal("0ada", ("admin",), frozenset({"*"}), session="s")
OPERATOR = Principal("operator", ("admin",), frozenset({"*"}))
NOTE = {"subject": "do.user.0bob.note", "payload": b'{"text": "hi"}', "from_client": True}


async def replayed(kit: ObjectKit, caller: Principal = ADA, id: str = "l1") -> dict[str, Any]:
    """Replay a letter, and return it once the replay has ended."""
    begun = await kit.call("dead_letter", id, "replay", caller=caller)
    assert begun["status"] == "replaying"
    await kit.settle()
    return dict(await kit.call("dead_letter", id, "read"))


async def seen(kit: ObjectKit) -> list[str]:
    return list(await kit.call("user", "0bob", "seen"))


async def test_a_replay_sends_it_again_once(letters: ObjectKit) -> None:
    await bury(letters, letter())
    after = await replayed(letters)
    assert (after["status"], after["replays"], after["replayed_by"], after["args"]) == ("replayed", 1, "0ada", None)
    assert await letters.call("tally", "b", "value") == 3
    assert ("0ada", "dead_letter.replayed", "l1", "success") in AuditSink.actions


async def test_a_letter_whose_message_was_not_kept_is_shown_and_not_replayed(letters: ObjectKit) -> None:
    await bury(letters, letter(payload=b"", message_kept=False))
    shown = await letters.call("dead_letter", "l1", "read")
    assert (shown["status"], shown["message_kept"], shown["args"]) == ("dead", False, None)
    assert "not kept" in (await failure(letters.call("dead_letter", "l1", "replay"))).detail


async def test_a_letter_that_was_replayed_is_not_replayed_again(letters: ObjectKit) -> None:
    await bury(letters, letter())
    await replayed(letters)
    assert (await failure(letters.call("dead_letter", "l1", "replay"))).code == "conflict"
    assert await letters.call("tally", "b", "value") == 3


async def test_one_replay_is_under_way_at_a_time(letters: ObjectKit) -> None:
    await bury(letters, letter(subject="do.tally.b.add_slowly", payload=b"{}"))
    await letters.call("dead_letter", "l1", "replay")
    await quiet()
    assert (await letters.call("dead_letter", "l1", "read"))["status"] == "replaying"
    assert (await failure(letters.call("dead_letter", "l1", "replay"))).code == "conflict"
    Tally.gate.set()
    await letters.settle()
    assert await letters.call("tally", "b", "value") == 1


async def test_a_replay_that_fails_again_shows_why_and_may_be_repeated(letters: ObjectKit) -> None:
    await bury(letters, letter(subject="do.user.0bob.note", payload=b'{"text": "refused"}'))
    after = await replayed(letters)
    assert (after["status"], after["code"], after["detail"]) == ("dead", "conflict", "not this one")
    assert (after["attempts"], after["args"]) == (3, {"text": "refused"})
    assert (await replayed(letters))["replays"] == 2


async def test_what_a_service_has_sent_is_sent_as_that_service_with_its_permissions(letters: ObjectKit) -> None:
    await bury(letters, letter(**{**NOTE, "from_client": False}))
    assert (await replayed(letters))["status"] == "replayed"
    assert await seen(letters) == ["service:test hi"]


@pytest.mark.parametrize("who", [ADA, OPERATOR], ids=["a user", "a token of the operator's"])
async def test_what_a_client_has_sent_is_sent_with_the_rights_of_who_replays_it(
    letters: ObjectKit, who: Principal
) -> None:
    await bury(letters, letter(**NOTE))
    assert (await replayed(letters, who))["status"] == "replayed"
    assert await seen(letters) == [f"{who.subject} hi"]


async def test_who_replays_may_not_do_more_than_they_may_then(
    letters: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bury(letters, letter(**NOTE))
    monkeypatch.setattr(Person, "role", "user")
    assert (await replayed(letters))["code"] == "forbidden"
    monkeypatch.setattr(Person, "role", "")
    assert (await replayed(letters))["code"] == "unauthenticated"
    assert await seen(letters) == []


async def test_an_operators_rights_are_those_that_the_token_had(letters: ObjectKit) -> None:
    await bury(letters, letter(**NOTE))
    narrow = Principal("operator", (), frozenset({"dead_letters:manage"}))
    assert (await replayed(letters, narrow))["code"] == "forbidden"
    wider = Principal("operator", (), frozenset({"dead_letters:manage", "people:note"}))
    assert (await replayed(letters, wider))["status"] == "replayed"


async def test_an_operators_rights_are_over_soon(letters: ObjectKit) -> None:
    await bury(letters, letter(**NOTE))
    await letters.call("dead_letter", "l1", "replay", caller=OPERATOR)
    letters.clock.advance(61)
    await letters.settle()
    assert (await letters.call("dead_letter", "l1", "read"))["code"] == "unauthenticated"


async def test_no_service_replays_what_a_client_has_sent(letters: ObjectKit) -> None:
    await bury(letters, letter(**NOTE))
    assert (await failure(letters.call("dead_letter", "l1", "replay", caller=SERVICE))).code == "forbidden"


async def test_what_may_have_been_applied_is_repeated_under_one_request_id(
    letters: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first replay's answer is lost; the second gets the recorded answer."""
    await bury(letters, letter())
    request, lost = letters.request, []

    async def lossy(subject: str, payload: bytes, **options: Any) -> bytes:
        reply = await request(subject, payload, **options)
        if subject == "do.tally.b.add" and not lost:
            lost.append(reply)
            raise Failure("unavailable", "lost on purpose")
        return reply

    monkeypatch.setattr(letters, "request", lossy)
    assert (await replayed(letters))["code"] == "unavailable"
    assert (await replayed(letters))["status"] == "replayed"
    assert await letters.call("tally", "b", "value") == 3


@pytest.fixture
def lossy(letters: ObjectKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the first answer of the user Bob."""
    request, lost = letters.request, []

    async def lose(subject: str, payload: bytes, **options: Any) -> bytes:
        try:
            return await request(subject, payload, **options)
        finally:
            if subject == NOTE["subject"] and not lost:
                lost.append(subject)
                raise Failure("unavailable", "lost on purpose")

    monkeypatch.setattr(letters, "request", lose)


@pytest.mark.usefixtures("lossy")
async def test_what_may_have_been_applied_is_applied_once_whoever_replays_it(letters: ObjectKit) -> None:
    """Even days later, and after a replay by someone who may replay but not call the method."""
    await bury(letters, letter(**NOTE))
    assert (await replayed(letters))["code"] == "unavailable"
    letters.clock.advance(2 * 86_400)
    await letters.call("user", "0bob", "note", text="else", headers=chosen("else"))
    narrow = Principal("narrow", (), frozenset({"dead_letters:manage"}))
    assert (await replayed(letters, narrow))["code"] == "forbidden"
    assert (await replayed(letters, OPERATOR))["status"] == "replayed"
    assert await seen(letters) == ["0ada hi", "admin else"]


@pytest.mark.usefixtures("lossy")
async def test_what_was_not_applied_may_be_after_all(letters: ObjectKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as it is known that the call with the lost answer was refused."""
    await bury(letters, letter(**{**NOTE, "payload": b'{"text": "refused"}'}))
    assert (await replayed(letters))["code"] == "unavailable"
    monkeypatch.setattr(Person, "refuses", False)
    assert (await replayed(letters, OPERATOR))["code"] == "conflict"
    assert (await replayed(letters, OPERATOR))["status"] == "replayed"
    assert await seen(letters) == ["operator refused"]


@pytest.mark.usefixtures("lossy")
async def test_what_may_have_been_applied_is_not_replayed_once_nobody_can_tell(letters: ObjectKit) -> None:
    await bury(letters, letter(**NOTE))
    await replayed(letters)
    letters.clock.advance(3.5 * 86_400)
    refused = await failure(letters.call("dead_letter", "l1", "replay", caller=OPERATOR))
    assert (refused.code, "found out" in refused.detail) == ("conflict", True)
    assert await seen(letters) == ["0ada hi"]


async def test_a_letter_may_be_deleted_while_it_is_replayed(letters: ObjectKit) -> None:
    await bury(letters, letter(subject="do.tally.b.add_slowly", payload=b"{}"))
    await letters.call("dead_letter", "l1", "replay")
    await quiet()
    await letters.call("dead_letter", "l1", "remove")
    Tally.gate.set()
    await letters.settle()
    assert await listed(letters) == []


async def test_a_replay_leaves_nothing_behind_but_the_letter(letters: ObjectKit) -> None:
    await bury(letters, letter(payload=b'{"by": 3, "note": "sesame"}'))
    after = await replayed(letters)
    assert (after["status"], after["code"]) == ("dead", "invalid")
    assert letters.store.documents["replay"]["l1"]["deleted"]
    assert "sesame" not in repr(letters.store.documents)
