"""What happens to API keys and webhooks when the password changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos import new_id
from aidevos.contracts.authentication import session_of
from aidevos.contracts.confirmation import recovery_id
from aidevos.security.permissions import ANONYMOUS, ROLES, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from services.api_gateway.service import service as api_gateway
from services.events.service import service as events
from tests.support.account_kits import EMAIL, NAME, PASSWORD, kit_of, login, owner, register
from tests.support.kits import failure
from tests.support.mails import in_folder, token_in

OTHER = "another wheelbarrow"
URL = "https://hooks.example.org/secret-path?token=s3cret"


class Sender:
    """Admits every URL."""

    async def check(self, url: str) -> None:
        pass


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings, api_gateway, events, sender=Sender(), owners=None) as kit:
        yield kit


@pytest.fixture
async def ada(kit: ObjectKit) -> Principal:
    """A user with two API keys and a webhook."""
    id = new_id()
    await register(kit, id)
    ada = Principal(id, ("user",), ROLES["user"])
    for name in ("ci", "backup"):
        await kit.call("api_key", new_id(), "create", name=name, scopes=["data:read"], caller=ada)
    args = {"url": URL, "events": ["*"], "description": "chat"}
    await kit.call("webhook", new_id(), "create", **args, caller=ada)
    await kit.settle()
    return ada


async def held(kit: ObjectKit, who: Principal) -> tuple[int, int]:
    """How many API keys and webhooks the user has."""
    await kit.settle()
    keys, webhooks = [await kit.query(type, "search", caller=who) for type in ("api_key", "webhook")]
    return len(keys["items"]), len(webhooks["items"])


async def change(kit: ObjectKit, pair: Any, **more: Any) -> Any:
    args = {"current_password": PASSWORD, "new_password": OTHER, **more}
    return await kit.call("session", session_of(pair["refresh_token"]), "change_password", **args, caller=owner(pair))


async def reset(kit: ObjectKit, settings: Settings, id: str, **more: Any) -> Any:
    await kit.call("recovery", recovery_id(EMAIL), "request_reset", email=EMAIL, caller=ANONYMOUS)
    await kit.settle()
    args = {"token": token_in(mails(settings)[-1]), "new_password": OTHER, **more}
    return await kit.call("confirmation", id, "reset_password", **args, caller=ANONYMOUS)


def mails(settings: Settings) -> list[Any]:
    return in_folder(settings.home / "outbox", "Ada@example.org")


def listed(changed: Any) -> tuple[set[str], list[str], bool]:
    hooks = [f"{hook['host']} {hook['description']}" for hook in changed["webhooks"]]
    return {key["name"] for key in changed["api_keys"]}, hooks, changed["revoked"]


@pytest.mark.parametrize(("more", "left"), [({}, (2, 1)), ({"revoke_keys": True}, (0, 0))])
async def test_a_change_lists_keys_and_webhooks_and_ends_them_when_asked(
    kit: ObjectKit, ada: Principal, more: dict[str, bool], left: tuple[int, int]
) -> None:
    changed = await change(kit, await login(kit), **more)

    assert listed(changed) == ({"ci", "backup"}, ["hooks.example.org chat"], bool(more))
    assert await held(kit, ada) == left


@pytest.mark.parametrize(("more", "left"), [({}, (0, 0)), ({"revoke_keys": False}, (2, 1))])
async def test_a_reset_lists_keys_and_webhooks_and_ends_them_unless_told_otherwise(
    kit: ObjectKit, settings: Settings, ada: Principal, more: dict[str, bool], left: tuple[int, int]
) -> None:
    changed = await reset(kit, settings, ada.subject, **more)

    assert listed(changed) == ({"ci", "backup"}, ["hooks.example.org chat"], not more)
    assert await held(kit, ada) == left


@pytest.mark.parametrize(("revoke", "said"), [(False, "These still work"), (True, "These were revoked")])
async def test_a_mail_lists_them_without_what_somebody_has_chosen(
    kit: ObjectKit, settings: Settings, ada: Principal, revoke: bool, said: str
) -> None:
    keys = (await kit.query("api_key", "search", caller=ada))["items"]
    (webhook,) = (await kit.query("webhook", "search", caller=ada))["items"]
    await change(kit, await login(kit), revoke_keys=revoke)
    await kit.settle()

    mail = mails(settings)[-1]
    text = mail.get_content()
    assert mail["Subject"] == "Your password was changed"
    assert said in text
    for key in keys:
        assert f"API key ending in {key['hint']}, {key['created_at']}" in text
    assert f"webhook {webhook['id']}" in text
    for chosen in ("backup", "chat", "hooks.example.org", NAME + "\n", PASSWORD, OTHER):
        assert chosen not in text


async def test_a_user_without_any_gets_a_mail_without_a_list(kit: ObjectKit, settings: Settings) -> None:
    await register(kit, new_id())

    assert await change(kit, await login(kit)) == {"api_keys": [], "webhooks": [], "revoked": False}
    await kit.settle()

    text = mails(settings)[-1].get_content()
    assert "ask for a new password now." in text
    assert "These" not in text


async def test_the_keys_and_webhooks_of_others_stay_and_a_wrong_password_ends_none(
    kit: ObjectKit, ada: Principal
) -> None:
    await register(kit, new_id(), "Eve", "eve@example.org", "e")
    eve = await login(kit, "Eve")
    wrong = {"current_password": "not the password", "revoke_keys": True}
    assert (await failure(change(kit, await login(kit), **wrong))).status == 401
    await change(kit, eve, revoke_keys=True)

    assert await held(kit, ada) == (2, 1)


async def test_what_is_revoked_is_in_the_security_log(kit: ObjectKit, ada: Principal) -> None:
    await change(kit, await login(kit), revoke_keys=True)
    await kit.settle()

    log = [entry["state"] for entry in kit.store.documents["audit"].values()]
    assert [entry["target"] for entry in log if entry["action"] == "credentials.revoked"] == [ada.subject]
