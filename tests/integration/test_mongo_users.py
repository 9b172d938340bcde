"""The services' MongoDB users: each may use its own types' collections, granted when a type is first served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest
from pymongo.errors import OperationFailure

from aidevos.durable.store.mongo import collections_of
from aidevos.process.fleet import DATA_USER, FLEET_FILE, Fleet, fleet_settings, with_credentials
from aidevos.security.fleet_secrets import SECRETS_FILE, Secrets, load_secrets
from aidevos.security.secret_files import write_secret
from aidevos.settings import SettingsError
from deploy.local.programs import SERVICES, shipped_types
from tests.support.servers import ExternalServer, Servers

UNAUTHORIZED = 13
Client = pymongo.MongoClient[dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_servers(servers: Servers) -> None:
    if isinstance(servers.mongo, ExternalServer):
        pytest.fail("this test needs a MongoDB of its own: unset AIDEVOS_MONGO_URL", pytrace=False)


def refused(operation: Any) -> bool:
    with pytest.raises(OperationFailure) as raised:
        operation()
    return raised.value.code == UNAUTHORIZED


def test_a_service_has_the_collections_of_its_own_types_and_no_others(servers: Servers, database: str) -> None:
    servers.mongo_url_of("events", database, ["webhook"])
    with Client(servers.mongo_url_of("objects", database, ["counter", "room"])) as client:
        for name in (*collections_of("counter"), *collections_of("room")):
            collection = client[database][name]
            collection.insert_one({"_id": 1})
            collection.create_index("a")
            assert collection.find_one({"_id": 1}) == {"_id": 1}
            assert collection.delete_one({"_id": 1}).deleted_count == 1
        for name in (*collections_of("webhook"), "scratch"):
            collection = client[database][name]
            assert refused(collection.find_one)
            assert refused(lambda collection=collection: collection.insert_one({}))
            assert refused(lambda collection=collection: collection.delete_many({}))
        assert refused(client[f"{database}_other"][collections_of("counter")[0]].find_one)
        assert refused(lambda: client.drop_database(database))
        assert refused(lambda: client.admin.command("usersInfo", 1))
        assert refused(lambda: client.admin.command("updateUser", "objects", roles=["root"]))


def test_the_type_of_one_service_is_not_granted_to_another(servers: Servers, database: str) -> None:
    servers.mongo_url_of("user_management", database, ["user"])
    with pytest.raises(SettingsError, match="obj_user belongs to user_management, so objects can't serve its type"):
        servers.mongo_url_of("objects", database, ["cart", "user"])
    with Client(servers.mongo_url_of("objects", database, [])) as client:
        assert refused(client[database].obj_cart.find_one)


def test_a_service_keeps_what_it_was_granted_before(servers: Servers, database: str) -> None:
    servers.mongo_url_of("objects", database, ["cart"])
    with Client(servers.mongo_url_of("objects", database, ["counter"])) as client:
        assert client[database].obj_cart.find_one() is None
        assert client[database].obj_counter.find_one() is None


def test_every_shipped_type_belongs_to_one_service() -> None:
    types = shipped_types()
    hosts = {service.name for service in SERVICES if service.stores}
    assert {service for service in types if types[service]} == hosts
    every = [type for names in types.values() for type in names]
    assert len(every) == len({*every})


@pytest.fixture
def home(servers: Servers, database: str, tmp_path: Path) -> Path:
    """Return the home of a fleet on the servers, as its owner sees it."""
    secrets = load_secrets(servers.home)
    fleet = Fleet(
        gateway_url="",
        public_url="",
        nats_url="nats://127.0.0.1:4222",
        nats_username="client",
        nats_password="",
        mongo_url=with_credentials(servers.mongo_url, DATA_USER, secrets.mongo[DATA_USER]),
        mongo_database=database,
        admin_username="",
        admin_password="",
        processes=[],
    )
    write_secret(tmp_path / SECRETS_FILE, msgspec.json.encode(secrets))
    write_secret(tmp_path / FLEET_FILE, msgspec.json.encode(fleet))
    return tmp_path


def test_a_type_is_granted_when_it_is_first_served(home: Path, servers: Servers, database: str) -> None:
    with Client(fleet_settings(home, "objects").mongo_url) as client:
        assert refused(client[database].obj_cart.find_one)
    with Client(fleet_settings(home, "objects", ["cart"]).mongo_url) as client:
        assert client[database].obj_cart.find_one() is None
        assert refused(client[database].obj_session.find_one)


def test_a_worker_gets_no_database(home: Path) -> None:
    assert fleet_settings(home, "task_worker").mongo_url == ""


@pytest.mark.parametrize("secrets", [{}, {"objects": "its own"}])
def test_a_url_that_is_not_the_owners_stays_as_it_is(home: Path, servers: Servers, secrets: dict[str, str]) -> None:
    """An external MongoDB needs only one user, and a container has only its own service's secrets."""
    kept = load_secrets(home)
    given = Secrets(nats=kept.nats, mongo=secrets, mongo_key="", admin_password="")
    write_secret(home / SECRETS_FILE, msgspec.json.encode(given))
    told = msgspec.json.decode((home / FLEET_FILE).read_bytes(), type=Fleet)
    assert fleet_settings(home, "objects", ["cart"]).mongo_url == told.mongo_url
