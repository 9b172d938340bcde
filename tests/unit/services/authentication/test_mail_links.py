"""The rules of links in mail, in one process: their effects, targets, uses, and crashes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import pytest

from aidevos import new_id
from aidevos.contracts.authentication import account_id, session_of
from aidevos.contracts.confirmation import recovery_id
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit
from services.authentication.mail.port import SingleFlightMailer
from tests.support.account_kits import EMAIL, NAME, OPEN, PASSWORD, from_address, kit_of, login, owner, register, serve
from tests.support.kits import chosen, crash, failure, until
from tests.support.mails import in_folder, token_in

ADA = "ada@example.org"
NEW = "Countess@Example.org"
OTHER = "another wheelbarrow"
# Commits of a change of address: announced, reserved, taken, the link spent.
CHANGES = 4


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


def mails(settings: Settings, to: str = "Ada@example.org") -> list[EmailMessage]:
    return in_folder(settings.home / "outbox", to)


async def registered(kit: ObjectKit, name: str = NAME, email: str = EMAIL) -> str:
    id = new_id()
    await register(kit, id, name, email, request=id)
    await kit.settle()
    return id


async def forget(kit: ObjectKit, email: str = EMAIL) -> Any:
    reply = await kit.call("recovery", recovery_id(email), "request_reset", email=email, caller=ANONYMOUS)
    await kit.settle()
    return reply


async def reset(kit: ObjectKit, id: str, token: str, password: str = OTHER) -> Any:
    args = {"token": token, "new_password": password}
    reply = await kit.call("confirmation", id, "reset_password", **args, caller=ANONYMOUS)
    await kit.settle()
    return reply


async def confirm(kit: ObjectKit, id: str, token: str, request: str = "c") -> Any:
    args = {"token": token}
    return await kit.call("confirmation", id, "confirm_email", **args, caller=ANONYMOUS, headers=chosen(request))


async def change(kit: ObjectKit, id: str, email: str = NEW, password: str = PASSWORD) -> None:
    args = {"password": password, "email": email}
    await kit.call("confirmation", id, "change_email", **args, caller=Principal(id))
    await kit.settle()


async def shown(kit: ObjectKit, id: str) -> Any:
    return await serve(kit, "user", id, "show")


async def changing(kit: ObjectKit, settings: Settings, id: str, email: str = NEW) -> str:
    """Request a change of address, and return the token mailed to the new address."""
    await change(kit, id, email)
    sent = in_folder(settings.home / "outbox")
    tokens = [token_in(mail) for mail in sent if mail["Subject"] == "Please confirm your new e-mail address"]
    return [token for token in tokens if token.startswith(f"{id}.")][-1]


async def test_a_registration_mails_a_link_that_confirms_the_address_once(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    (mail,) = mails(settings)
    before = await shown(kit, id)

    confirmed = await confirm(kit, id, token_in(mail))
    again = await failure(confirm(kit, id, token_in(mail), "d"))

    assert before["email_verified"] is False
    assert confirmed == {"email": "Ada@example.org", "email_verified": True}
    assert (await shown(kit, id))["email_verified"] is True
    assert (again.code, again.field) == ("invalid", "args.token")


async def test_a_reset_changes_the_password_once_and_ends_every_session(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    await login(kit)
    await forget(kit, EMAIL.upper())
    token = token_in(mails(settings)[-1])
    short = await failure(reset(kit, id, token, "short"))
    own = await failure(reset(kit, id, token, NAME + "@example.org"))

    await reset(kit, id, token)

    assert [(refused.code, refused.field) for refused in (short, own)] == [("invalid", "args.new_password")] * 2
    assert (await failure(reset(kit, id, token, "a third wheelbarrow"))).field == "args.token"
    assert (await serve(kit, "auth", account_id(NAME), "sessions"))["items"] == []
    assert (await failure(login(kit))).status == 401
    assert (await login(kit, password=OTHER))["user"]["email_verified"] is True


@pytest.mark.parametrize("way", ["changed", "reset"])
async def test_a_new_password_voids_the_links_from_before(kit: ObjectKit, settings: Settings, way: str) -> None:
    id = await registered(kit)
    pair = await login(kit)
    stolen = await changing(kit, settings, id, "thief@example.org")
    for _ in range(2):
        await forget(kit)
    old, newer = map(token_in, mails(settings)[-2:])

    if way == "reset":
        await reset(kit, id, newer)
    else:
        args = {"current_password": PASSWORD, "new_password": OTHER}
        await kit.call("session", session_of(pair["refresh_token"]), "change_password", **args, caller=owner(pair))
        await kit.settle()

    for use in (confirm(kit, id, stolen), reset(kit, id, old, "a third wheelbarrow")):
        assert (await failure(use)).field == "args.token"
    assert (await login(kit, password=OTHER))["user"]["email"] == "Ada@example.org"


async def test_a_reset_lets_a_user_in_while_strangers_go_on_failing(kit: ObjectKit, settings: Settings) -> None:
    id, home = await registered(kit), from_address("192.0.2.1")
    await forget(kit)
    args = {"token": token_in(mails(settings)[-1]), "new_password": OTHER}
    await kit.call("confirmation", id, "reset_password", **args, caller=ANONYMOUS, headers=home)
    for _ in range(settings.login_failures):
        await failure(login(kit, password="wrong", headers=from_address("192.0.2.66")))

    assert await login(kit, password=OTHER, headers=home)


async def test_a_reset_opens_a_throttled_account(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    for _ in range(settings.login_failures):
        await failure(login(kit, password="wrong"))
    await forget(kit)

    await reset(kit, id, token_in(mails(settings)[-1]))

    assert await login(kit, password=OTHER)


async def test_an_unknown_address_gets_the_same_answer_and_leaves_nothing(kit: ObjectKit, settings: Settings) -> None:
    await registered(kit)
    known = await forget(kit)
    before = {type: set(found) for type, found in kit.store.documents.items()}
    sent = len(in_folder(settings.home / "outbox"))

    for number in range(20):
        assert await forget(kit, f"nobody{number}@example.org") == known

    assert len(in_folder(settings.home / "outbox")) == sent
    left = {type: set(found) - before[type] for type, found in kit.store.documents.items()}
    assert {type for type, ids in left.items() if ids} <= {"recovery"}
    assert not kit.letters


async def test_a_link_does_nothing_late_altered_elsewhere_or_for_another_user(
    kit: ObjectKit, settings: Settings
) -> None:
    id, eve = await registered(kit), await registered(kit, "Eve", "eve@example.org")
    verifies = token_in(mails(settings)[-1])
    await forget(kit)
    resets = token_in(mails(settings)[-1])
    user, nonce, mac = resets.split(".")
    flipped = ("A" if mac[0] != "A" else "B") + mac[1:]
    for token in (
        f"{user}.{nonce}.{flipped}",
        f"{user}.{nonce}.",
        f"{user}.{nonce}",
        user,
        verifies,
        f"{eve}.{nonce}.{mac}",
    ):
        assert (await failure(reset(kit, id, token))).field == "args.token"
    for token in (resets, f"{eve}.{nonce}.{mac}"):
        assert (await failure(reset(kit, eve, token))).field == "args.token"
    assert (await failure(confirm(kit, id, resets))).field == "args.token"
    kit.clock.advance(settings.reset_age)

    assert (await failure(reset(kit, id, resets))).field == "args.token"
    assert await login(kit)


def at_rest(kit: ObjectKit) -> str:
    return repr(kit.store.documents) + repr(kit.letters) + repr(vars(kit.bus))


async def test_nothing_at_rest_is_a_token(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    await forget(kit)
    stored = at_rest(kit)
    await reset(kit, id, token_in(mails(settings)[-1]))
    await change(kit, id, password=OTHER)
    stored += at_rest(kit)
    linked = [mail for mail in in_folder(settings.home / "outbox") if "#" in mail.get_content()]
    tokens = [token_in(mail) for mail in linked]
    await confirm(kit, id, tokens[2])
    await kit.settle()
    stored += at_rest(kit)

    assert len(tokens) == 3
    assert tokens[0].split(".")[1] in stored
    for secret in (*tokens, PASSWORD, OTHER):
        assert secret not in stored
        assert secret.rpartition(".")[2] not in stored


async def test_mails_of_one_purpose_are_limited(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    for _ in range(settings.mails_per_hour + 2):
        await forget(kit)
    caller = Principal(id)
    for _ in range(settings.mails_per_hour - 1):
        await kit.call("confirmation", id, "verify_email", caller=caller)
    refused = await failure(kit.call("confirmation", id, "verify_email", caller=caller))
    await kit.settle()

    subjects = [mail["Subject"] for mail in mails(settings)]
    assert subjects.count("Choose a new password") == settings.mails_per_hour
    assert subjects.count("Please confirm your e-mail address") == settings.mails_per_hour
    assert (refused.code, 3590 < (refused.retry_after or 0) <= 3600) == ("rate-limited", True)
    kit.clock.advance(3601)
    await kit.call("confirmation", id, "verify_email", caller=caller)


async def test_of_two_mails_for_a_reset_either_link_works_and_then_none(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    await forget(kit)
    await forget(kit)
    first, second = [token_in(mail) for mail in mails(settings)[1:]]

    await reset(kit, id, first)

    assert (await failure(reset(kit, id, second))).field == "args.token"


async def test_requests_for_mail_and_attempts_with_links_are_limited_for_each_address(settings: Settings) -> None:
    limited = load({"AIDEVOS_ADDRESS_MAILS": "2"}, home=settings.home)
    async with kit_of(limited) as kit:
        id = await registered(kit)
        for _ in range(2):
            await forget(kit)
            await failure(confirm(kit, id, f"{id}.n.m", secrets.token_hex(4)))

        assert (await failure(forget(kit))).code == "rate-limited"
        assert (await failure(confirm(kit, id, f"{id}.n.m"))).code == "rate-limited"


async def test_the_deactivated_get_no_mail_and_their_links_do_nothing(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    verifies = token_in(mails(settings)[0])
    await forget(kit)
    resets = token_in(mails(settings)[1])
    await kit.call("user", id, "deactivate")

    assert await forget(kit) is None
    assert len(mails(settings)) == 2
    assert (await failure(reset(kit, id, resets))).field == "args.token"
    assert (await failure(confirm(kit, id, verifies))).field == "args.token"
    await kit.call("user", id, "activate")
    assert await login(kit)


async def test_only_a_user_asks_for_its_own_mails(kit: ObjectKit) -> None:
    id = await registered(kit)
    args = {"password": PASSWORD, "email": NEW}
    for caller in (Principal("stranger"), Principal("admin", ("admin",), frozenset({"*"}))):
        refused = await failure(kit.call("confirmation", id, "verify_email", caller=caller))
        foreign = await failure(kit.call("confirmation", id, "change_email", **args, caller=caller))
        assert (refused.code, foreign.code) == ("not-found", "not-found")


async def test_an_address_changes_when_the_new_one_is_confirmed(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    wrong = await failure(change(kit, id, password="wrong"))
    malformed = await failure(change(kit, id, "nobody"))
    same = await failure(change(kit, id, "Ada@EXAMPLE.org"))
    token = await changing(kit, settings, id)
    notice = mails(settings)[-1]
    before = await shown(kit, id)

    assert await confirm(kit, id, token) == {"email": "Countess@example.org", "email_verified": True}
    await kit.settle()

    assert (wrong.code, malformed.field, same.code) == ("unauthenticated", "args.email", "conflict")
    assert notice["Subject"] == "Your e-mail address is about to change"
    assert "#" not in notice.get_content()
    assert (before["email"], before["email_verified"]) == ("Ada@example.org", False)
    after = await shown(kit, id)
    assert (after["email"], after["email_verified"]) == ("Countess@example.org", True)
    assert (await login(kit, NEW.upper()))["user"]["id"] == id
    assert (await failure(login(kit, EMAIL))).status == 401
    await registered(kit, "Eve", EMAIL)
    assert (await failure(register(kit, new_id(), "Mallory", NEW, "m"))).field == "args.email"


async def test_another_spelling_of_ones_own_address_is_a_change_too(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)

    await confirm(kit, id, await changing(kit, settings, id, "ADA@example.org"))
    await kit.settle()

    assert (await shown(kit, id))["email"] == "ADA@example.org"
    assert (await login(kit, EMAIL))["user"]["id"] == id


async def test_a_link_of_the_address_before_does_nothing_after_a_change(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    await forget(kit)
    verifies, resets = [token_in(mail) for mail in mails(settings)]
    await confirm(kit, id, await changing(kit, settings, id))
    await kit.settle()

    assert (await failure(reset(kit, id, resets))).field == "args.token"
    assert (await failure(confirm(kit, id, verifies, "v"))).field == "args.token"


async def test_a_newer_request_for_a_change_replaces_the_one_before(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    first = await changing(kit, settings, id)
    second = await changing(kit, settings, id, "other@example.org")

    assert (await failure(confirm(kit, id, first))).field == "args.token"
    assert (await confirm(kit, id, second, "d"))["email"] == "other@example.org"


async def test_of_many_who_want_one_address_one_gets_it(kit: ObjectKit, settings: Settings) -> None:
    users = [await registered(kit, f"user{number}", f"user{number}@example.org") for number in range(8)]
    spellings = ("Wanted@example.org", "wanted@example.org")
    tokens = [await changing(kit, settings, id, spellings[number % 2]) for number, id in enumerate(users)]

    outcomes = await asyncio.gather(
        *(confirm(kit, id, token) for id, token in zip(users, tokens, strict=True)),
        register(kit, new_id(), "newcomer", "WANTED@example.org", "n"),
        return_exceptions=True,
    )
    await kit.settle()

    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert {outcome.status for outcome in outcomes if isinstance(outcome, Failure)} == {409}
    emails = [found["state"]["email"].lower() for found in kit.store.documents["user"].values() if "state" in found]
    assert emails.count("wanted@example.org") == 1
    # The losers get a definite answer, and keep their old addresses.
    loser = next(number for number, outcome in enumerate(outcomes[:8]) if isinstance(outcome, Failure))
    again = await failure(confirm(kit, users[loser], tokens[loser], "again"))
    assert (again.code, again.field) == ("exists", "args.email")
    assert (await login(kit, f"user{loser}@example.org"))["user"]["id"] == users[loser]


async def test_crossing_changes_dont_wait_for_each_other(kit: ObjectKit, settings: Settings) -> None:
    ada, eve = await registered(kit), await registered(kit, "Eve", "eve@example.org")
    adas = await changing(kit, settings, ada, "eve@example.org")
    eves = await changing(kit, settings, eve, "Ada@example.org")

    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(confirm(kit, ada, adas), confirm(kit, eve, eves), return_exceptions=True)

    assert [getattr(outcome, "status", None) for outcome in outcomes] == [409, 409]
    assert (await login(kit, EMAIL))["user"]["id"] == ada


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(CHANGES))
async def test_a_change_that_dies_at_any_commit_can_be_repeated(settings: Settings, commit: int, fate: str) -> None:
    store, id, token = await crash_at(settings, commit, fate)

    async with kit_of(settings, store=store) as successor:
        spent = commit == CHANGES - 1 and fate == "applied"
        if spent:
            assert (await failure(confirm(successor, id, token, "d"))).field == "args.token"
        else:
            assert (await confirm(successor, id, token, "d"))["email"] == "Countess@example.org"
        await successor.settle()

        assert (await login(successor, NEW))["user"]["id"] == id
        assert (await failure(register(successor, new_id(), "Mallory", NEW, "m"))).field == "args.email"
        await registered(successor, "Eve", EMAIL)


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(CHANGES))
async def test_a_change_that_dies_at_any_commit_keeps_no_address_from_others(
    settings: Settings, commit: int, fate: str
) -> None:
    store, id, token = await crash_at(settings, commit, fate)
    taken = commit > 2 or (commit == 2 and fate == "applied")

    async with kit_of(settings, store=store) as successor:
        other = new_id()
        if taken:
            assert (await failure(register(successor, other, "Eve", NEW, "e"))).field == "args.email"
            assert (await register(successor, other, "Eve", EMAIL, "f"))["id"] == other
        else:
            assert (await failure(register(successor, other, "Eve", EMAIL, "f"))).field == "args.email"
            assert (await register(successor, other, "Eve", NEW, "e"))["id"] == other
            assert (await failure(confirm(successor, id, token, "d"))).code == "exists"
        await successor.settle()
        assert (await login(successor, NEW))["user"]["id"] == (id if taken else other)
        assert (await login(successor, EMAIL))["user"]["id"] == (other if taken else id)


async def crash_at(settings: Settings, commit: int, fate: str) -> tuple[Any, str, str]:
    """Crash a process during this commit of a change of address; return its store, the user's ID and the token."""
    gate = asyncio.Event()
    async with kit_of(settings) as kit:
        id = await registered(kit)
        token = await changing(kit, settings, id)
        done = kit.store.commits
        kit.store.faults.extend([OPEN] * commit + [gate])
        confirming = asyncio.create_task(confirm(kit, id, token))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > done + commit)
        await crash(kit)
        confirming.cancel()
        await asyncio.gather(confirming, return_exceptions=True)
        kit.store.down = False
        return kit.store, id, token


async def test_a_late_release_doesnt_take_an_address_back(kit: ObjectKit, settings: Settings) -> None:
    id = await registered(kit)
    await confirm(kit, id, await changing(kit, settings, id))
    await confirm(kit, id, await changing(kit, settings, id, "Ada@example.org"), "back")
    await kit.settle()

    await serve(kit, "auth", account_id(EMAIL), "free_email", {"user": id})

    assert (await login(kit, EMAIL))["user"]["id"] == id
    assert (await failure(register(kit, new_id(), "Eve", EMAIL, "e"))).field == "args.email"


async def test_an_address_that_was_only_announced_goes_to_whoever_asks(kit: ObjectKit) -> None:
    id = await registered(kit)
    await serve(kit, "user", id, "announce_email", {"email": NEW, "change": "first"})
    await serve(kit, "auth", account_id(NEW), "reserve_email", {"user": id, "primary": account_id(NAME)})
    eve = await registered(kit, "Eve", NEW)

    late = await failure(serve(kit, "user", id, "take_email", {"email": NEW, "change": "first"}))

    assert late.code == "conflict"
    assert (await login(kit, NEW))["user"]["id"] == eve


async def test_a_change_that_was_given_up_cant_be_finished_by_an_older_turn(kit: ObjectKit) -> None:
    id = await registered(kit)
    await serve(kit, "user", id, "announce_email", {"email": NEW, "change": "first"})
    assert await serve(kit, "user", id, "holds", {"account": account_id(NEW)}) is False
    await serve(kit, "user", id, "announce_email", {"email": NEW, "change": "second"})

    late = await failure(serve(kit, "user", id, "take_email", {"email": NEW, "change": "first"}))

    assert late.code == "conflict"


class Unsteady:
    """A mail server that is down until it is told otherwise."""

    def __init__(self) -> None:
        self.refusal: Failure | None = Failure("unavailable", "away")
        self.attempts = 0
        self.taken: list[EmailMessage] = []

    async def send(self, id: str, message: EmailMessage) -> None:
        self.attempts += 1
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(message)


@pytest.fixture
def server() -> Unsteady:
    return Unsteady()


@pytest.fixture
async def unsteady(settings: Settings, server: Unsteady) -> AsyncIterator[ObjectKit]:
    """Return a kit whose mail goes to the unsteady server."""
    async with kit_of(settings, mailer=SingleFlightMailer(server)) as kit:
        yield kit


async def test_a_mail_waits_for_the_mail_server_and_is_then_sent_once(unsteady: ObjectKit, server: Unsteady) -> None:
    kit = unsteady
    id = new_id()
    await register(kit, id)
    await until(lambda: server.attempts > 2)
    server.refusal = None
    await kit.settle()

    assert len(server.taken) == 1
    assert (await confirm(kit, id, token_in(server.taken[0])))["email_verified"]
    assert not kit.letters


@pytest.mark.parametrize("reason", ["refused", "late"])
async def test_a_mail_that_is_never_taken_ends_as_a_dead_letter(
    unsteady: ObjectKit, server: Unsteady, settings: Settings, reason: str
) -> None:
    kit = unsteady
    await register(kit, new_id())
    await until(lambda: server.attempts > 0)
    if reason == "refused":
        server.refusal = Failure("invalid", "no such mailbox")
    else:
        kit.clock.advance(settings.confirm_age)
    await kit.settle()

    (letter,) = kit.letters.values()
    assert letter.subject.startswith("do.mail.")
    assert not server.taken


async def test_who_is_unverified_may_be_kept_out_after_the_right_password(settings: Settings) -> None:
    strict = load({"AIDEVOS_LOGIN_UNVERIFIED": "false"}, home=settings.home)
    async with kit_of(strict) as kit:
        id = await registered(kit)
        right, wrong = await failure(login(kit)), await failure(login(kit, password="wrong"))
        await forget(kit)
        await reset(kit, id, token_in(mails(settings)[-1]))
        await serve(kit, "user", new_id(), "install", {"username": "admin", "password": "short"})

        assert (right.status, right.code) == (403, "email-unverified")
        assert (wrong.status, wrong.code) == (401, "unauthenticated")
        assert await login(kit, password=OTHER)
        assert await login(kit, "admin", "short")
