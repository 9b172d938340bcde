"""The rules of the second factor in one process: single use, crashes, and data at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pyotp
import pytest

from aidevos import new_id
from aidevos.contracts.authentication import account_id, account_of, session_of
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.authentication.challenge import LIFETIME
from services.authentication.credential_checks import OTP_WINDOW
from tests.support.account_kits import kit_of
from tests.support.kits import chosen, crash, failure

PASSWORD = "wheelbarrow at noon"
STEP = 30.0
DEVICE = "a browser"


class Person:
    """A user with an authenticator app, on a kit that may be replaced."""

    def __init__(self, kit: ObjectKit, name: str = "ada") -> None:
        self.kit = kit
        self.name = name
        self.account = account_id(name)
        self.email = f"{name}@example.org"
        self.secret = ""
        self.pair: Any = None
        self.recovery: list[str] = []

    async def enrol(self) -> None:
        args = {"username": self.name, "email": self.email, "password": PASSWORD}
        await self.kit.call("user", new_id(), "register", **args)
        self.pair = await self.login()
        self.secret = (await self.own("begin_totp", password=PASSWORD))["secret"]
        self.recovery = (await self.own("confirm_totp", otp=self.otp()))["recovery_codes"]
        self.kit.clock.advance(STEP)

    def otp(self, steps: int = 0) -> str:
        return pyotp.TOTP(self.secret).at(self.kit.clock.now(), counter_offset=steps)

    def wrong(self) -> str:
        near = {self.otp(steps) for steps in range(-2, 3)}
        return next(code for code in map("{:06}".format, range(10)) if code not in near)

    async def own(self, method: str, request: str = "", **args: Any) -> Any:
        session = session_of(self.pair["refresh_token"])
        caller = Principal(self.pair["user"]["id"], ("user",), session=session)
        headers = chosen(request) if request else {}
        return await self.kit.call("session", session, method, **args, caller=caller, headers=headers)

    async def login(self, name: str = "", password: str = PASSWORD, request: str = "", **args: Any) -> Any:
        name = name or self.name
        args = {"username": name, "password": password, "device": DEVICE, **args}
        headers = chosen(request) if request else {}
        return await self.kit.call("auth", account_id(name), "login", **args, caller=ANONYMOUS, headers=headers)

    async def challenge(self, **args: Any) -> str:
        refused = await failure(self.login(**args))
        assert (refused.code, refused.status) == ("mfa-required", 401)
        return str(refused.challenge)

    async def verify(self, challenge: str, request: str = "", device: str = DEVICE, **code: str) -> Any:
        args = {"challenge": challenge, "device": device, **code}
        headers = chosen(request) if request else {}
        return await self.kit.call("auth", account_of(challenge), "verify", **args, caller=ANONYMOUS, headers=headers)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


@pytest.fixture
async def ada(kit: ObjectKit) -> Person:
    person = Person(kit)
    await person.enrol()
    return person


async def refused(work: Any) -> Failure:
    raised = await failure(work)
    assert (raised.code, raised.status) == ("unauthenticated", 401)
    return raised


async def test_a_secret_counts_when_a_code_of_it_was_confirmed(kit: ObjectKit, ada: Person) -> None:
    eve = Person(kit, "eve")
    await eve.enrol()
    await eve.own("disable_totp", otp=eve.otp())
    kit.clock.advance(STEP)

    assert (await failure(eve.own("confirm_totp", otp=eve.otp()))).code == "conflict"
    eve.secret = (await eve.own("begin_totp", password=PASSWORD))["secret"]
    assert await eve.login()
    await refused(eve.own("confirm_totp", otp=eve.wrong()))
    assert not (await eve.own("me"))["mfa"]
    await eve.own("confirm_totp", otp=eve.otp())
    assert (await eve.own("me"))["mfa"]
    assert await eve.challenge()


async def test_a_code_logs_in_once_and_not_again_within_the_drift(ada: Person) -> None:
    otp, next_one = ada.otp(), ada.otp(1)

    assert await ada.login(otp=otp)
    await refused(ada.login(otp=otp))
    await refused(ada.verify(await ada.challenge(), otp=otp))
    assert await ada.login(otp=next_one)
    ada.kit.clock.advance(STEP)
    await refused(ada.login(otp=next_one))
    await refused(ada.login(otp=otp))
    assert await ada.login(otp=ada.otp(1))


async def test_the_code_that_confirmed_logs_nobody_in(ada: Person) -> None:
    await refused(ada.login(otp=ada.otp(-1)))


@pytest.mark.parametrize("steps", [-2, 2])
async def test_a_code_further_away_than_one_step_is_wrong(ada: Person, steps: int) -> None:
    ada.kit.clock.advance(3 * STEP)

    await refused(ada.login(otp=ada.otp(steps)))


async def test_a_login_by_either_name_is_completed_with_its_challenge(ada: Person) -> None:
    for name in (ada.name, ada.email):
        pair = await ada.verify(await ada.challenge(name=name), otp=ada.otp())
        ada.kit.clock.advance(STEP)
        assert pair["user"] == ada.pair["user"]
        assert await ada.login(name=name, otp=ada.otp())
        ada.kit.clock.advance(STEP)


async def test_the_password_is_asked_for_first(ada: Person) -> None:
    wrong = await refused(ada.login(password="not the password", otp=ada.otp()))

    assert wrong.challenge is None
    assert wrong.detail == (await refused(ada.login("nobody"))).detail


async def test_a_challenge_is_good_for_one_login(ada: Person) -> None:
    challenge = await ada.challenge()
    await ada.verify(challenge, otp=ada.otp())
    ada.kit.clock.advance(STEP)

    await refused(ada.verify(challenge, otp=ada.otp()))
    await refused(ada.verify(challenge, recovery_code=ada.recovery[0]))
    assert await ada.verify(await ada.challenge(), recovery_code=ada.recovery[0])


async def test_a_challenge_outlives_a_wrong_code_but_not_its_time(ada: Person) -> None:
    challenge, other = await ada.challenge(), await ada.challenge()
    await refused(ada.verify(challenge, otp=ada.wrong()))
    ada.kit.clock.advance(LIFETIME - 1)
    assert await ada.verify(challenge, otp=ada.otp())
    ada.kit.clock.advance(1)

    await refused(ada.verify(other, otp=ada.otp(1)))


async def test_a_challenge_is_nothing_to_another_account_or_device(kit: ObjectKit, ada: Person) -> None:
    eve = Person(kit, "eve")
    await eve.enrol()
    sealed = (await ada.challenge()).partition(".")[2]

    await refused(eve.verify(f"{eve.account}.{sealed}", otp=eve.otp()))
    await refused(ada.verify(f"{ada.account}.{sealed}", otp=ada.otp(), device="another"))
    for changed in (sealed[:-6] + "AAAAAA", sealed[1:], "", ada.account):
        await refused(ada.verify(f"{ada.account}.{changed}", otp=ada.otp()))
    assert await ada.verify(f"{ada.account}.{sealed}", otp=ada.otp())


async def change_password(ada: Person) -> None:
    await ada.own("change_password", current_password=PASSWORD, new_password="another wheelbarrow")


async def disable(ada: Person) -> None:
    await ada.own("disable_totp", recovery_code=ada.recovery[0])


@pytest.mark.parametrize("change", [change_password, disable])
async def test_a_challenge_ends_with_the_password_and_the_seed(ada: Person, change: Callable[[Person], Any]) -> None:
    challenge, otp = await ada.challenge(), ada.otp()
    await change(ada)

    await refused(ada.verify(challenge, otp=otp))


async def test_a_reset_of_the_password_leaves_it_in_place(ada: Person) -> None:
    args = {"user": ada.pair["user"]["id"], "new": "another wheelbarrow"}
    await ada.kit.call("auth", ada.account, "reset_password", **args, caller=SERVICE)

    challenge = await ada.challenge(password="another wheelbarrow")
    assert await ada.verify(challenge, otp=ada.otp())


async def test_a_challenge_alone_gives_nothing(ada: Person) -> None:
    challenge = await ada.challenge()
    for codes in ({}, {"otp": ada.otp(), "recovery_code": ada.recovery[0]}):
        assert (await failure(ada.verify(challenge, **codes))).code == "invalid"

    assert await ada.verify(challenge, otp=ada.otp())


async def test_wrong_codes_count_as_wrong_passwords_do_and_a_right_password_forgives_none(
    ada: Person, settings: Settings
) -> None:
    challenge = await ada.challenge()
    for _ in range(settings.login_failures // 2):
        await ada.challenge()
        await refused(ada.verify(challenge, otp=ada.wrong()))
        await refused(ada.login(otp=ada.wrong()))

    for attempt in (
        ada.verify(challenge, otp=ada.otp()),
        ada.login(otp=ada.otp()),
        ada.verify(challenge, recovery_code=ada.recovery[0]),
    ):
        assert (await failure(attempt)).code == "rate-limited"
    ada.kit.clock.advance(settings.login_window)
    assert await ada.verify(challenge, otp=ada.otp())


async def test_a_complete_login_forgives_earlier_failures(ada: Person, settings: Settings) -> None:
    for code in (ada.otp(), ada.otp(1)):
        for _ in range(settings.login_failures - 1):
            await refused(ada.login(password="not the password"))
        assert await ada.login(otp=code)


async def test_whoever_has_the_password_guesses_so_many_codes_a_day_and_recovery_codes_still_work(
    ada: Person, settings: Settings
) -> None:
    for _ in range(settings.otp_failures // settings.login_failures):
        for _ in range(settings.login_failures):
            await refused(ada.login(otp=ada.wrong()))
        ada.kit.clock.advance(settings.login_window)
        # As if the account had hibernated.
        ada.kit.catalogue.drop_all()

    assert (await failure(ada.login(otp=ada.otp()))).code == "rate-limited"
    assert (await failure(ada.verify(await ada.challenge(), otp=ada.otp()))).code == "rate-limited"
    assert await ada.verify(await ada.challenge(), recovery_code=ada.recovery[0])
    ada.kit.clock.advance(OTP_WINDOW)
    assert await ada.login(otp=ada.otp())


async def test_no_restart_grants_further_guesses_at_codes(ada: Person, settings: Settings) -> None:
    await ada.kit.settle()
    await crash(ada.kit)
    for _ in range(settings.otp_failures // settings.login_failures):
        async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
            for _ in range(settings.login_failures):
                await refused(ada.login(otp=ada.wrong()))
        async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
            assert (await failure(ada.login(otp=ada.otp()))).code == "rate-limited"
        ada.kit.clock.advance(settings.login_window)

    async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        assert (await failure(ada.login(otp=ada.otp()))).code == "rate-limited"
        ada.kit.clock.advance(OTP_WINDOW)
        assert await ada.login(otp=ada.otp())


async def test_a_wrong_code_spends_no_challenge_even_across_a_restart(ada: Person, settings: Settings) -> None:
    challenge = await ada.challenge()
    await refused(ada.verify(challenge, otp=ada.wrong()))
    await ada.kit.settle()
    await crash(ada.kit)

    async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        assert await ada.verify(challenge, otp=ada.otp())
        await refused(ada.verify(challenge, otp=ada.otp(1)))


async def test_whoever_has_no_password_locks_nobody_out_with_challenges(ada: Person, settings: Settings) -> None:
    for _ in range(2 * settings.login_failures):
        await refused(ada.verify(f"{ada.account}.invented", otp=ada.wrong()))

    assert await ada.login(otp=ada.otp())


async def test_a_pending_secret_cannot_be_guessed(ada: Person, settings: Settings) -> None:
    begun = await ada.own("begin_totp", password=PASSWORD, recovery_code=ada.recovery[0])
    ada.secret = begun["secret"]
    for _ in range(settings.login_failures):
        await refused(ada.own("confirm_totp", otp=ada.wrong()))

    assert (await failure(ada.own("confirm_totp", otp=ada.otp()))).code == "rate-limited"


async def test_a_recovery_code_works_once_however_it_is_written(ada: Person) -> None:
    assert len(set(ada.recovery)) == 10
    plain, spelled = ada.recovery[0], f" {ada.recovery[1].upper().replace('-', ' ')}"

    for code in (plain, spelled):
        assert await ada.verify(await ada.challenge(), recovery_code=code)
        await refused(ada.verify(await ada.challenge(), recovery_code=code))
    await refused(ada.verify(await ada.challenge(), recovery_code="aaaa-aaaa-aaaa-aaaa"))


async def test_new_recovery_codes_end_the_old_ones(ada: Person) -> None:
    await refused(ada.own("renew_recovery_codes", password="not the password", otp=ada.otp()))
    renewed = await ada.own("renew_recovery_codes", password=PASSWORD, otp=ada.otp())

    assert "once" in renewed["note"]
    await refused(ada.verify(await ada.challenge(), recovery_code=ada.recovery[0]))
    assert await ada.verify(await ada.challenge(), recovery_code=renewed["recovery_codes"][0])


async def test_it_is_turned_off_by_a_code_and_by_nothing_less(ada: Person) -> None:
    for proof in ({"otp": ada.wrong()}, {"password": "not the password", "otp": ada.otp()}):
        await refused(ada.own("disable_totp", **proof))
    for proof in ({}, {"password": PASSWORD}, {"otp": ada.otp(), "recovery_code": ada.recovery[0]}):
        incomplete = await failure(ada.own("disable_totp", **proof))
        assert (incomplete.code, incomplete.field) == ("invalid", "args.otp")
    assert (await ada.own("me"))["mfa"]

    await ada.own("disable_totp", otp=ada.otp())

    assert not (await ada.own("me"))["mfa"]
    assert await ada.login()
    assert (await failure(ada.own("renew_recovery_codes", password=PASSWORD))).code == "conflict"


@pytest.mark.parametrize("method", ["begin_totp", "renew_recovery_codes"])
async def test_the_password_alone_replaces_no_part_of_it(ada: Person, method: str) -> None:
    incomplete = await failure(ada.own(method, password=PASSWORD))
    assert (incomplete.code, incomplete.field) == ("invalid", "args.otp")
    await refused(ada.own(method, password=PASSWORD, otp=ada.wrong()))
    await refused(ada.own(method, password="not the password", otp=ada.otp()))

    assert await ada.own(method, password=PASSWORD, otp=ada.otp())
    assert await ada.own(method, password=PASSWORD, recovery_code=(await renewed(ada, method))[0])


async def renewed(ada: Person, method: str) -> list[str]:
    """The recovery codes that are valid after the method was called once."""
    if method == "begin_totp":
        return ada.recovery
    ada.kit.clock.advance(STEP)
    codes: list[str] = (await ada.own(method, password=PASSWORD, otp=ada.otp()))["recovery_codes"]
    return codes


async def test_a_new_secret_replaces_the_old_one_when_it_is_confirmed(ada: Person) -> None:
    old = ada.secret
    new = (await ada.own("begin_totp", password=PASSWORD, otp=ada.otp()))["secret"]
    ada.kit.clock.advance(STEP)
    assert await ada.login(otp=ada.otp())
    ada.secret = new
    await ada.own("confirm_totp", otp=ada.otp())
    ada.kit.clock.advance(STEP)

    assert await ada.login(otp=ada.otp())
    ada.secret = old
    await refused(ada.login(otp=ada.otp(1)))


async def test_a_deactivated_user_gets_neither_a_challenge_nor_a_session(ada: Person) -> None:
    challenge = await ada.challenge()
    await ada.kit.call("user", ada.pair["user"]["id"], "deactivate")
    await ada.kit.settle()

    assert (await refused(ada.login())).challenge is None
    await refused(ada.verify(challenge, otp=ada.otp()))


async def test_a_hash_is_renewed_at_a_login_of_two_steps(ada: Person, settings: Settings) -> None:
    raised = load({"AIDEVOS_PASSWORD_TIME": "3"}, home=settings.home)
    async with kit_of(raised, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        await ada.verify(await ada.challenge(), otp=ada.otp())
        await ada.kit.settle()

        assert "t=3" in ada.kit.store.documents["auth"][ada.account]["state"]["hashed"]
        ada.kit.clock.advance(STEP)
        assert await ada.login(otp=ada.otp())


async def test_after_a_crash_challenges_hold_spent_codes_stay_spent_and_a_repeat_passes(
    ada: Person, settings: Settings
) -> None:
    challenge, other = await ada.challenge(), await ada.challenge()
    otp, recovery = ada.otp(), ada.recovery[0]
    await ada.verify(challenge, "request", otp=otp)
    await ada.kit.settle()
    await crash(ada.kit)

    async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        await refused(ada.verify(other, otp=otp))
        await refused(ada.verify(challenge, "another", otp=otp))
        assert await ada.verify(challenge, "request", otp=otp)
        assert await ada.verify(other, "last", recovery_code=recovery)
        await ada.kit.settle()
        await crash(ada.kit)
    async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        await refused(ada.verify(await ada.challenge(), recovery_code=recovery))
        assert await ada.verify(other, "last", recovery_code=recovery)


async def test_a_confirmation_that_was_not_answered_can_be_repeated(ada: Person, settings: Settings) -> None:
    ada.secret = (await ada.own("begin_totp", password=PASSWORD, otp=ada.otp()))["secret"]
    otp = ada.otp()
    lost = await ada.own("confirm_totp", "request", otp=otp)
    await ada.kit.settle()
    await crash(ada.kit)

    async with kit_of(settings, store=ada.kit.store, clock=ada.kit.clock) as ada.kit:
        shown = await ada.own("confirm_totp", "request", otp=otp)
        await refused(ada.verify(await ada.challenge(), recovery_code=lost["recovery_codes"][0]))
        assert await ada.verify(await ada.challenge(), recovery_code=shown["recovery_codes"][0])
        assert (await failure(ada.own("confirm_totp", "another", otp=otp))).code == "conflict"


async def test_the_security_log_tells_what_happened_and_no_secret(ada: Person) -> None:
    challenge = await ada.challenge()
    await refused(ada.verify(challenge, otp=ada.wrong()))
    await ada.verify(challenge, recovery_code=ada.recovery[0])
    await refused(ada.own("renew_recovery_codes", password="not the password", otp=ada.otp()))
    await ada.own("renew_recovery_codes", password=PASSWORD, otp=ada.otp())
    ada.kit.clock.advance(STEP)
    await ada.own("disable_totp", otp=ada.otp())
    await ada.kit.settle()

    user, session = ada.pair["user"]["id"], session_of(ada.pair["refresh_token"])
    log = [entry["state"] for entry in ada.kit.store.documents["audit"].values()]
    told = {(entry["action"], entry["outcome"], entry["reason"], entry["actor"], entry["session"]) for entry in log}
    assert {entry for entry in told if entry[0].startswith("mfa") or entry[1] == "failure"} == {
        ("mfa.enabled", "success", "", user, session),
        ("login", "failure", "wrong code", "", ""),
        ("mfa.recovery_code_used", "success", "", user, ""),
        ("mfa.recovery_codes_renewed", "failure", "wrong password", user, session),
        ("mfa.recovery_codes_renewed", "success", "", user, session),
        ("mfa.disabled", "success", "", user, session),
    }
    assert {entry["target"] for entry in log} <= {user}
    for secret in (ada.secret, challenge, *ada.recovery, ada.name):
        assert secret not in repr(log).replace(user, "")


async def test_no_secret_of_it_is_at_rest(ada: Person) -> None:
    pending = await ada.own("begin_totp", password=PASSWORD, otp=ada.otp())
    ada.kit.clock.advance(STEP)
    challenge, otp = await ada.challenge(), ada.otp()
    await ada.verify(challenge, otp=otp)
    await ada.kit.settle()

    stored = repr(ada.kit.store.documents) + repr(ada.kit.letters) + repr(vars(ada.kit.bus))
    plain = [code.replace("-", "") for code in ada.recovery]
    assert "recovery" in stored
    for secret in (ada.secret, pending["secret"], challenge, f"'{otp}'", *ada.recovery, *plain):
        assert secret not in stored


async def test_a_seed_that_was_moved_to_another_account_is_worth_nothing(
    kit: ObjectKit, ada: Person, settings: Settings
) -> None:
    eve = Person(kit, "eve")
    await eve.enrol()
    await kit.settle()
    await crash(kit)
    documents = kit.store.documents["auth"]
    documents[ada.account]["state"]["mfa"]["seed"] = documents[eve.account]["state"]["mfa"]["seed"]

    async with kit_of(settings, store=kit.store, clock=kit.clock) as ada.kit:
        assert (await failure(ada.login(otp=eve.otp()))).code == "internal"
        assert await ada.verify(await ada.challenge(), recovery_code=ada.recovery[0])
