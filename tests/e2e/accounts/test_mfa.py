"""The second factor over HTTP and NATS on real servers, and its data in MongoDB."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx2
import msgspec
import nats
import pymongo
import pyotp
import pytest

from aidevos.contracts import subjects
from aidevos.contracts.authentication import account_id, account_of, session_of
from aidevos.contracts.errors import Failure
from tests.support.world import NatsEntryPoint, World

PASSWORD = "wheelbarrow at noon"
HTTP_METHODS = {
    "begin_totp": ("POST", "/auth/mfa/totp"),
    "confirm_totp": ("POST", "/auth/mfa/totp/confirm"),
    "disable_totp": ("DELETE", "/auth/mfa/totp"),
    "renew_recovery_codes": ("POST", "/auth/mfa/recovery-codes"),
    "me": ("GET", "/auth/me"),
}


class Accounts(Protocol):
    """Accounts through one entry point. Methods return decoded results and raise `Failure`."""

    async def register(self, name: str) -> Any: ...

    async def login(self, name: str, **args: str) -> Any: ...

    async def verify(self, challenge: str, **code: str) -> Any: ...

    async def own(self, pair: Any, method: str, **args: str) -> Any: ...


class OverHttp:
    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def register(self, name: str) -> Any:
        return await self._request("POST", "/auth/register", **names(name), password=PASSWORD)

    async def login(self, name: str, **args: str) -> Any:
        return await self._request("POST", "/auth/login", username=name, password=PASSWORD, **args)

    async def verify(self, challenge: str, **code: str) -> Any:
        return await self._request("POST", "/auth/mfa/verify", challenge=challenge, **code)

    async def own(self, pair: Any, method: str, **args: str) -> Any:
        return await self._request(*HTTP_METHODS[method], bearer(pair), **args)

    async def _request(self, verb: str, path: str, authorization: str = "", **body: str) -> Any:
        headers = {"Authorization": authorization} if authorization else {}
        response = await self._client.request(verb, path, headers=headers, json=body or None)
        if response.is_error:
            assert response.headers["content-type"] == "application/problem+json"
            raise Failure.decode(response.content)
        return response.json() if response.content else None


class OverNats:
    def __init__(self, door: NatsEntryPoint) -> None:
        self._door = door

    async def register(self, name: str) -> Any:
        return await self._call("user", subjects.new_id(), "register", **names(name), password=PASSWORD)

    async def login(self, name: str, **args: str) -> Any:
        return await self._call("auth", account_id(name), "login", username=name, password=PASSWORD, **args)

    async def verify(self, challenge: str, **code: str) -> Any:
        return await self._call("auth", account_of(challenge), "verify", challenge=challenge, **code)

    async def own(self, pair: Any, method: str, **args: str) -> Any:
        return await self._call("session", session_of(pair["refresh_token"]), method, bearer(pair), **args)

    async def _call(self, type: str, id: str, method: str, authorization: str | None = None, **args: str) -> Any:
        return await self._door.call(type, id, method, msgspec.json.encode(args), authorization=authorization)


def names(name: str) -> dict[str, str]:
    return {"username": name, "email": f"{name}@example.org"}


def bearer(pair: Any) -> str:
    return f"Bearer {pair['access_token']}"


class Codes:
    """The codes of an authenticator app. Codes of the current and the next step stay valid for longer
    than a test takes."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._totp = pyotp.TOTP(secret)
        self._at = time.time()
        self.spent, self.fresh = self.at(0), self.at(1)

    def at(self, steps: int) -> str:
        return self._totp.at(self._at, counter_offset=steps)


@pytest.fixture(params=["http", "nats"])
async def accounts(request: pytest.FixtureRequest, world: World, http: httpx2.AsyncClient) -> AsyncIterator[Accounts]:
    if request.param == "http":
        yield OverHttp(http)
    else:
        connection = await nats.connect(world.servers.nats_url("client"))
        yield OverNats(NatsEntryPoint(connection))
        await connection.close()


@pytest.fixture
def name() -> str:
    return f"ada{secrets.token_hex(6)}"


async def enrol(accounts: Accounts, name: str) -> tuple[Any, Codes, list[str]]:
    """Register a user with a second factor; return tokens, app and recovery codes."""
    await accounts.register(name)
    pair = await accounts.login(name)
    codes = Codes((await accounts.own(pair, "begin_totp", password=PASSWORD))["secret"])
    confirmed = await accounts.own(pair, "confirm_totp", otp=codes.spent)
    return pair, codes, confirmed["recovery_codes"]


async def failure(work: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


async def test_a_second_factor_from_the_first_code_to_its_end(accounts: Accounts, name: str) -> None:
    pair, codes, recovery = await enrol(accounts, name)
    refused = [await failure(accounts.login(each)) for each in (name, f"{name}@example.org")]

    assert [(each.status, each.code) for each in refused] == [(401, "mfa-required")] * 2
    assert (await accounts.own(pair, "me"))["mfa"] is True
    first, second = (str(each.challenge) for each in refused)
    assert (await failure(accounts.verify(first, otp=codes.spent))).status == 401
    assert (await accounts.verify(first, otp=codes.fresh))["user"] == pair["user"]
    assert (await failure(accounts.verify(first, recovery_code=recovery[0]))).status == 401
    assert (await accounts.verify(second, recovery_code=recovery[0]))["user"] == pair["user"]
    renewing = {"password": PASSWORD, "recovery_code": recovery[1]}
    renewed = (await accounts.own(pair, "renew_recovery_codes", **renewing))["recovery_codes"]
    third = str((await failure(accounts.login(name))).challenge)
    assert (await failure(accounts.verify(third, recovery_code=recovery[2]))).status == 401
    assert await accounts.verify(third, recovery_code=renewed[1])

    for method in ("begin_totp", "renew_recovery_codes", "disable_totp"):
        assert (await failure(accounts.own(pair, method, password=PASSWORD))).status == 422
    proof = {"password": "not the password", "recovery_code": renewed[2]}
    assert (await failure(accounts.own(pair, "disable_totp", **proof))).status == 401
    await accounts.own(pair, "disable_totp", **proof | {"password": PASSWORD})

    assert (await accounts.own(pair, "me"))["mfa"] is False
    assert await accounts.login(name)


async def test_a_login_takes_the_code_at_once_and_only_once(accounts: Accounts, name: str) -> None:
    pair, codes, _ = await enrol(accounts, name)

    assert (await accounts.login(name, otp=codes.fresh))["user"] == pair["user"]
    for spent in (codes.spent, codes.fresh):
        assert (await failure(accounts.login(f"{name}@example.org", otp=spent))).code == "unauthenticated"


async def test_of_ten_logins_at_once_with_one_code_one_passes(accounts: Accounts, name: str) -> None:
    _, codes, _ = await enrol(accounts, name)

    answers = await asyncio.gather(*(accounts.login(name, otp=codes.fresh) for _ in range(10)), return_exceptions=True)

    assert sorted(isinstance(answer, Failure) for answer in answers) == [False] + [True] * 9


async def test_wrong_codes_are_throttled(accounts: Accounts, name: str) -> None:
    _, codes, _ = await enrol(accounts, name)
    challenge = str((await failure(accounts.login(name))).challenge)
    good = {codes.at(steps) for steps in range(-2, 4)}
    wrong = next(code for code in map("{:06}".format, range(10)) if code not in good)

    statuses = [(await failure(accounts.verify(challenge, otp=wrong))).status for _ in range(11)]

    assert statuses == [401] * 10 + [429]
    assert (await failure(accounts.login(name, otp=codes.fresh))).status == 429


@pytest.mark.parametrize(("args", "status"), [({"otp": "12345"}, 422), ({"otp": "000000", "recovery_code": "x"}, 422)])
async def test_a_verification_needs_one_code(accounts: Accounts, name: str, args: dict[str, str], status: int) -> None:
    refused = await failure(accounts.verify(f"{account_id(name)}.invented", **args))

    assert (refused.status, str(refused.field).rpartition(".")[2]) == (status, "otp")


async def test_the_seed_in_the_database_cannot_be_read(world: World, http: httpx2.AsyncClient, name: str) -> None:
    _, codes, recovery = await enrol(OverHttp(http), name)
    with pymongo.MongoClient(world.servers.mongo_url) as client:
        documents = [
            document
            for database in client.list_database_names()
            if database.startswith("test_")
            for document in client[database]["obj_auth"].find({"_id": account_id(name)})
        ]

    assert len(documents) == 1
    stored = repr(documents[0])
    assert documents[0]["state"]["mfa"]["seed"]
    for hidden in (codes.secret, *recovery, *(code.replace("-", "") for code in recovery)):
        assert hidden not in stored


async def test_a_code_in_a_header_turns_it_off_where_no_body_can_be_sent(http: httpx2.AsyncClient, name: str) -> None:
    pair, codes, _ = await enrol(OverHttp(http), name)
    authorization = {"Authorization": bearer(pair)}
    bare = await http.delete("/auth/mfa/totp", headers=authorization)
    malformed = await http.delete("/auth/mfa/totp", headers=authorization | {"Otp": "x"})
    turned_off = await http.delete("/auth/mfa/totp", headers=authorization | {"Otp": codes.fresh})

    assert (bare.status_code, malformed.status_code, malformed.json()["field"]) == (400, 422, "otp")
    assert turned_off.status_code == 204
    assert await OverHttp(http).login(name)


async def test_answers_with_secrets_are_not_for_caches(http: httpx2.AsyncClient, name: str) -> None:
    await OverHttp(http).register(name)
    pair = await OverHttp(http).login(name)
    authorization = {"Authorization": bearer(pair)}
    made = await http.post("/auth/mfa/totp", headers=authorization, json={"password": PASSWORD})
    body = {"otp": Codes(made.json()["secret"]).fresh}
    confirmed = await http.post("/auth/mfa/totp/confirm", headers=authorization, json=body)

    assert [answer.status_code for answer in (made, confirmed)] == [200, 200]
    assert {answer.headers["cache-control"] for answer in (made, confirmed)} == {"no-store"}
    assert "once" in confirmed.json()["note"]


async def test_a_browser_gets_its_cookies_after_the_second_step(http: httpx2.AsyncClient, name: str) -> None:
    _, codes, _ = await enrol(OverHttp(http), name)
    login = {"username": name, "password": PASSWORD}
    first = await http.post("/auth/login?cookie=true", json=login)
    body = {"challenge": first.json()["challenge"], "otp": codes.fresh}
    second = await http.post("/auth/mfa/verify?cookie=true", json=body)

    assert (first.status_code, "set-cookie" in first.headers) == (401, False)
    assert second.status_code == 200, second.text
    assert "access_token" not in second.json()
    assert (await http.get("/auth/me")).json()["mfa"] is True


async def test_a_challenge_and_spent_codes_outlive_a_kill(world: World, http: httpx2.AsyncClient, name: str) -> None:
    accounts = OverHttp(http)
    _, codes, recovery = await enrol(accounts, name)
    challenge, other = [str((await failure(accounts.login(name))).challenge) for _ in range(2)]
    await accounts.verify(other, recovery_code=recovery[0])
    world.restart("authentication")

    assert (await failure(accounts.verify(challenge, recovery_code=recovery[0]))).status == 401
    assert (await failure(accounts.verify(other, otp=codes.fresh))).status == 401
    assert await accounts.verify(challenge, otp=codes.fresh)
