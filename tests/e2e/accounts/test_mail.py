"""Mail over HTTP and NATS: delivery by folder and by SMTP, the effect of links, and the data at rest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from email.message import EmailMessage
from typing import Any

import httpx2
import msgspec
import nats
import pytest

from aidevos.contracts.confirmation import recovery_id, user_of
from aidevos.contracts.errors import Failure
from tests.support.browser import Browsers, Page
from tests.support.logins import PASSWORD, Person, bearer, logged_in, login, register, wait_until_refused
from tests.support.mails import in_folder, token_in
from tests.support.world import NatsEntryPoint, World

OTHER = "another wheelbarrow"
WITHIN = 20.0


class Links:
    """The link methods over both entry points; errors such as `unauthenticated` are raised as failures."""

    def __init__(self, world: World, door: str, http: httpx2.AsyncClient, over_nats: NatsEntryPoint) -> None:
        self.door, self._http, self._nats = door, http, over_nats

    async def forget(self, email: str) -> None:
        await self._call("/auth/password/reset", "recovery", recovery_id(email), "request_reset", {"email": email})

    async def reset(self, token: str, password: str = OTHER) -> None:
        args = {"token": token, "new_password": password}
        await self._call("/auth/password/reset/confirm", "confirmation", user_of(token), "reset_password", args)

    async def confirm(self, token: str) -> Any:
        return await self._call(
            "/auth/email/confirm", "confirmation", user_of(token), "confirm_email", {"token": token}
        )

    async def verify(self, pair: Any) -> None:
        await self._call("/auth/email/verify", "confirmation", pair["user"]["id"], "verify_email", {}, pair)

    async def change(self, pair: Any, email: str, password: str = PASSWORD) -> None:
        args = {"password": password, "email": email}
        await self._call("/auth/email", "confirmation", pair["user"]["id"], "change_email", args, pair)

    async def _call(self, path: str, type: str, id: str, method: str, args: Mapping[str, str], pair: Any = None) -> Any:
        headers = bearer(pair) if pair else {}
        if self.door == "nats":
            payload, token = msgspec.json.encode(args), headers.get("Authorization")
            return await self._nats.call(type, id, method, payload, authorization=token)
        answer = await self._http.post(path, json=args, headers=headers)
        if answer.is_error:
            raise Failure.decode(answer.content)
        return answer.json() if answer.content else None


@pytest.fixture(params=["http", "nats"])
async def links(request: pytest.FixtureRequest, world: World, http: httpx2.AsyncClient) -> AsyncIterator[Links]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield Links(world, request.param, http, NatsEntryPoint(connection))
    await connection.close()


async def mailed(world: World, to: str, subject: str) -> EmailMessage:
    """Return the last mail to this address with this text in its subject, once it has arrived."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = [mail for mail in in_folder(world.servers.home / "outbox", to) if subject in mail["Subject"]]
            if found:
                return found[-1]
            await asyncio.sleep(0.02)


async def refused(work: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


async def test_a_forgotten_password_is_replaced_and_every_session_ends(
    world: World, http: httpx2.AsyncClient, links: Links, person: Person
) -> None:
    mine = await logged_in(http, person)
    await links.forget(person.email)
    token = token_in(await mailed(world, mine["user"]["email"], "new password"))

    weak = await refused(links.reset(token, "short"))
    await links.reset(token)

    assert (weak.status, (weak.field or "").removeprefix("args.")) == (422, "new_password")
    await wait_until_refused(http, mine)
    assert (await login(http, person.username)).status_code == 401
    assert (await login(http, person.username, OTHER)).json()["user"]["email_verified"] is True
    assert (await refused(links.reset(token, "a third wheelbarrow"))).status == 422
    assert (await login(http, person.username, OTHER)).status_code == 200


async def test_an_address_is_confirmed_and_changed_by_links(
    world: World, http: httpx2.AsyncClient, links: Links, person: Person
) -> None:
    mine = await logged_in(http, person)
    before, after = mine["user"]["email"], "new" + mine["user"]["email"]
    first = token_in(await mailed(world, before, "confirm your e-mail"))
    await links.verify(mine)

    assert await links.confirm(first) == {"email": before, "email_verified": True}
    assert (await refused(links.verify(mine))).status == 409
    assert (await refused(links.change(mine, after, "wrong"))).status == 401
    await links.change(mine, after)
    token = token_in(await mailed(world, after, "new e-mail"))
    assert "#token" not in (await mailed(world, before, "about to change")).get_content()
    assert (await http.get("/users/me", headers=bearer(mine))).json()["email"] == before
    assert await links.confirm(token) == {"email": after, "email_verified": True}
    assert (await refused(links.confirm(token))).status == 422

    assert (await http.get("/users/me", headers=bearer(mine))).json()["email"] == after
    assert (await login(http, after)).status_code == 200
    body = {"username": person.username + "b", "email": before, "password": PASSWORD}
    assert (await http.post("/auth/register", json=body)).status_code == 201


async def test_of_two_users_who_want_one_address_one_gets_it(
    world: World, http: httpx2.AsyncClient, links: Links, person: Person
) -> None:
    wanted = f"wanted-{person.email}".lower()
    people = [Person(f"{person.username}{n}", f"{n}{person.email}") for n in range(4)]
    pairs = [await logged_in(http, each) for each in people]
    for number, pair in enumerate(pairs):
        await links.change(pair, wanted.replace("wanted", "WANTED" if number % 2 else "wanted"))
    async with asyncio.timeout(WITHIN):
        tokens: set[str] = set()
        while len(tokens) < len(pairs):
            sent = [mail for mail in in_folder(world.servers.home / "outbox") if mail["To"].lower() == wanted]
            tokens = set(map(token_in, sent))
            await asyncio.sleep(0.02)

    outcomes = await asyncio.gather(*map(links.confirm, tokens), return_exceptions=True)

    assert sorted(getattr(outcome, "status", 200) for outcome in outcomes) == [200] + [409] * 3
    owners = [(await http.get("/users/me", headers=bearer(pair))).json()["email"].lower() for pair in pairs]
    assert owners.count(wanted) == 1
    assert (await login(http, wanted)).status_code == 200


async def test_known_and_unknown_addresses_get_the_same_answer_in_the_same_time(
    http: httpx2.AsyncClient, person: Person
) -> None:
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    answers = set()
    for round in range(15):
        each = Person(f"{person.username}{round}", f"{round}{person.email}")
        assert (await register(http, each)).status_code == 201
        for kind, email in (("known", each.email), ("unknown", f"x{each.email}")):
            began = time.perf_counter()
            answer = await http.post("/auth/password/reset", json={"email": email})
            took[kind].append(time.perf_counter() - began)
            answers.add((answer.status_code, answer.content, answer.headers.get("content-type")))

    assert answers == {(202, b"", None)}
    # Noise only adds time, so the fastest runs show systematic differences.
    known, unknown = (statistics.median(sorted(times)[:5]) for times in took.values())
    assert abs(known - unknown) < 0.5 * max(known, unknown)


async def test_the_button_of_the_page_confirms_the_address(
    world: World, http: httpx2.AsyncClient, person: Person, browsers: Browsers
) -> None:
    mine = await logged_in(http, person)
    token = token_in(await mailed(world, mine["user"]["email"], "confirm"))
    browser = await asyncio.to_thread(browsers.open)
    try:
        await asyncio.to_thread(press_the_button, Page(browser, f"{world.url}/auth/email/confirm#token={token}"))
    finally:
        browser.quit()

    assert (await http.get("/users/me", headers=bearer(mine))).json()["email_verified"] is True


def press_the_button(page: Page) -> None:
    page.at("go").click()
    page.until(lambda: page.at("said").text == "Your e-mail address is confirmed.")
    assert page.complaints == []


async def test_links_lead_to_pages_that_use_nothing_up(world: World, http: httpx2.AsyncClient, person: Person) -> None:
    mine = await logged_in(http, person)
    mail = await mailed(world, mine["user"]["email"], "confirm")
    link = httpx2.URL(re.search(r"https?://\S+", mail.get_content())[0])  # type: ignore[index]
    token = token_in(mail)

    for path in (link.path, "/auth/password/reset/confirm"):
        page = await http.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert token not in page.text
        for tag in ("script", "style"):
            (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in page.headers["content-security-policy"]
        assert "innerHTML" not in page.text
    assert link.fragment == f"token={token}"
    assert (await http.get("/users/me", headers=bearer(mine))).json()["email_verified"] is False
    assert (await http.post(link.path, json={"token": token})).json()["email_verified"] is True
