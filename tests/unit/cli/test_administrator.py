"""The administrator of a fleet on this machine: a user, as long as that user may administrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from aidevos.cli.target import Administrator
from aidevos.contracts.users import administrator_id
from aidevos.process.fleet import Fleet
from aidevos.security.keys import ensure_signing_key
from aidevos.security.permissions import OWNER
from tests.support.fake_gateway import FakeGateway

ADMIN = administrator_id("Admin")
PATH = f"GET /users/{ADMIN}"
PUBLIC_URL = "https://api.example.org"


@pytest.fixture
def home(tmp_path: Path, gateway: FakeGateway) -> Path:
    ensure_signing_key(tmp_path)
    texts = dict.fromkeys(Fleet.__struct_fields__, "")
    told = {"gateway_url": gateway.url, "public_url": PUBLIC_URL, "admin_username": "admin", "processes": []}
    (tmp_path / "fleet.json").write_bytes(msgspec.json.encode({**texts, **told}))
    return tmp_path


async def test_it_is_the_first_administrator(home: Path, gateway: FakeGateway) -> None:
    gateway.answers[PATH] = (200, {"status": "active", "roles": ["user", "admin"]})

    token = jwt.decode(await Administrator(home)(), options={"verify_signature": False})

    assert (token["sub"], token["roles"]) == (ADMIN, ["admin"])


@pytest.mark.parametrize(
    "answer", [None, (200, {"status": "deactivated", "roles": ["admin"]}), (200, {"status": "active", "roles": []})]
)
async def test_it_is_the_owner_if_that_user_does_not_administrate(
    home: Path, gateway: FakeGateway, answer: Any
) -> None:
    if answer:
        gateway.answers[PATH] = answer

    token = jwt.decode(await Administrator(home)(), options={"verify_signature": False})

    assert (token["sub"], token["roles"]) == (OWNER, ["admin"])
