"""URLs of several servers: a NATS cluster's are separated by commas, and a MongoDB replica set has one URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aidevos.durable.client import connection
from aidevos.process.fleet import with_credentials
from aidevos.security.fleet_secrets import Secrets
from aidevos.settings import SettingsError, load, split_urls
from deploy.local.endpoints import describe

CLUSTER = "tls://fleet:p%40ss@one:4222,tls://fleet:p%40ss@two:4333,tls://fleet:p%40ss@three:4222"
REPLICA_SET = "mongodb://u:p@one:27017,two:27017,three:27017/?replicaSet=rs&tls=true"


@pytest.mark.parametrize(
    "text",
    [
        CLUSTER,
        "tls://fleet:p%40ss@one:4222,two:4333,three:4222",
        "tls://fleet:p%40ss@one:4222, tls://two:4333, fleet:p%40ss@three:4222,",
    ],
)
def test_the_servers_of_a_nats_cluster_have_the_scheme_and_the_user_of_the_first(text: str) -> None:
    assert load({"AIDEVOS_NATS_URL": text}).nats_url == CLUSTER


@pytest.mark.parametrize("url", ["", "nats://one:4222", "one:4222", "nats://u:p@one", "nats://token@one:4222"])
def test_the_url_of_one_server_is_taken_as_it_is(url: str) -> None:
    assert load({"AIDEVOS_NATS_URL": url}).nats_url == url


def test_servers_without_a_scheme_are_those_of_nats() -> None:
    assert load({"AIDEVOS_NATS_URL": "one:4222,two:4222"}).nats_url == "nats://one:4222,nats://two:4222"


@pytest.mark.parametrize("other", ["nats://two", "tls://other:secret@two", "fleet:secreter@two"])
def test_servers_that_differ_are_refused_without_showing_a_password(other: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_NATS_URL") as refused:
        load({"AIDEVOS_NATS_URL": f"tls://fleet:secret@one:4222,{other}"})
    assert "secret" not in str(refused.value)


def test_a_server_without_tls_among_others_is_refused_where_tls_is_required() -> None:
    with pytest.raises(SettingsError, match=r"NATS_URL must ask for TLS"):
        load({}, tls_required=True, nats_url="nats://one,nats://two")
    assert load({}, tls_required=True, nats_url=CLUSTER, mongo_url=REPLICA_SET).tls_required


def test_the_hosts_of_a_replica_set_stay_in_one_url() -> None:
    assert split_urls(REPLICA_SET) == [REPLICA_SET]
    assert load({"AIDEVOS_MONGO_URL": REPLICA_SET}).mongo_url == REPLICA_SET


@pytest.mark.parametrize(
    ("url", "expected", "without"),
    [
        (CLUSTER, "tls://a:b%2C@one:4222,tls://a:b%2C@two:4333,tls://a:b%2C@three:4222", "tls://one:4222,"),
        (REPLICA_SET, "mongodb://a:b%2C@one:27017,two:27017,three:27017/?replicaSet=rs&tls=true", "mongodb://one:"),
        ("nats://one:4222", "nats://a:b%2C@one:4222", "nats://one:4222"),
        ("", "", ""),
    ],
)
def test_every_server_gets_the_credentials(url: str, expected: str, without: str) -> None:
    if url:
        assert with_credentials(url, "a", "b,") == expected
    removed = with_credentials(url, "", "")
    assert removed.startswith(without)
    assert "@" not in removed


def test_fleet_json_has_the_cluster_s_servers_and_its_user_apart(tmp_path: Path) -> None:
    settings = load({}, home=tmp_path, nats_url=CLUSTER, mongo_url=REPLICA_SET)
    secrets = Secrets(nats={}, mongo={}, mongo_key="", admin_password="secret")
    fleet = describe(settings, secrets, [])
    assert fleet.nats_url == "tls://one:4222,tls://two:4333,tls://three:4222"
    assert (fleet.nats_username, fleet.nats_password) == ("fleet", "p@ss")
    assert fleet.mongo_url == REPLICA_SET


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        (CLUSTER, {"user": "fleet", "password": "p@ss"}),
        ("tls://t%2Cken@one:4222,tls://t%2Cken@two:4333,tls://t%2Cken@three:4222", {"token": "t,ken"}),
        ("tls://one:4222,tls://two:4333,tls://three:4222", {}),
    ],
)
def test_a_connection_has_the_user_apart_from_the_servers(url: str, credentials: dict[str, Any]) -> None:
    options = connection._servers(url)
    assert options["servers"] == ["tls://one:4222", "tls://two:4333", "tls://three:4222"]
    assert {name: options[name] for name in ("user", "password", "token") if name in options} == credentials


@pytest.mark.parametrize("count", ["2", "0", "many"])
def test_streams_have_one_three_or_five_copies(count: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_STREAM_REPLICAS"):
        load({"AIDEVOS_STREAM_REPLICAS": count})
    assert load({"AIDEVOS_STREAM_REPLICAS": "3"}).stream_replicas == 3
