"""The Secrets of a fleet on Kubernetes: each service's hold what it needs, and nothing of another."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate
import msgspec
import pytest

from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.security import key_ring, keys, service_keys
from aidevos.security.credentials import ServiceCredential
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.keys import ensure_secret, load_ring
from aidevos.security.service_keys import ServiceSigningKeys, VerificationKeys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, load
from deploy.kubernetes.manifests import KEY_NOTICE, kubernetes_name, manifests
from deploy.local.programs import SERVICES, Service
from tests.support.pods import Manifest, data_of, environment_of, mount, pod_of
from tests.support.shop import Basket

URLS = {"AIDEVOS_NATS_URL": "nats://nats:4222", "AIDEVOS_MONGO_URL": "mongodb://root:owners@mongo/?authSource=admin"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(URLS, home=tmp_path_factory.mktemp("kubernetes") / "home")


@pytest.fixture(scope="module")
def made(settings: Settings) -> list[Manifest]:
    return manifests(settings, "aidevos")


def seen(service: Service, made: list[Manifest], home: Path) -> str:
    """Everything that a pod of the service can read, as one text."""
    pod = pod_of(kubernetes_name(service.name))
    mount(pod, made, home)
    files = [path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file()]
    return "\n".join([*files, *environment_of(pod, made).values()])


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_pod_sees_the_secrets_of_its_service_and_no_others(
    settings: Settings, made: list[Manifest], tmp_path: Path, service: Service
) -> None:
    text, secrets = seen(service, made, tmp_path), load_secrets(settings.home)

    def key_of(name: str) -> str:
        found: str = json.loads((settings.home / "service_keys" / f"{name}.json").read_bytes())["private"]
        return found

    assert {name for name, password in secrets.nats.items() if password in text} == {service.user}
    assert {name for name, password in secrets.mongo.items() if password in text} == (
        {service.name} if service.stores else set()
    )
    assert {each.name for each in SERVICES if key_of(each.name) in text} == {service.name}
    assert (load_ring(settings.home)[0].private in text) == (service.name == "authentication")
    assert (secrets.admin_password in text) == (service.name == "user_management")
    assert "owners" not in text
    assert secrets.mongo_key not in text


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_pod_can_sign_though_it_can_write_nothing(
    made: list[Manifest], tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pod_of(kubernetes_name(service.name))
    own = load(environment_of(pod, made), home=mount(pod, made, tmp_path))
    monkeypatch.setattr(service_keys, "write_secret", _refuse)

    credential = ServiceCredential(own, service.name, service.load_permissions())
    ServiceSigningKeys(own.home, service.name, acts_for_others=service.acts_for_others)

    verified = TokenVerifier(VerificationKeys(own.home), own.public_url).verify(credential.authorization())
    assert verified.permissions == service.load_permissions()


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("authentication", "sealing.key"),
        ("authentication", "refresh.key"),
        ("authentication", "links.key"),
        ("projects", "sealing.key"),
        ("events", "sealing.key"),
        ("data_storage", "cursors"),
        ("api_gateway", "api_keys.key"),
        ("http_gateway", "csrf.key"),
    ],
)
def test_all_pods_of_a_service_derive_and_seal_with_the_same_key(
    settings: Settings, made: list[Manifest], tmp_path: Path, service: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pod_of(kubernetes_name(service))
    homes = [mount(pod, made, tmp_path / "first"), mount(pod, manifests(settings, "aidevos"), tmp_path / "second")]
    monkeypatch.setattr(keys, "write_secret", _refuse)

    first, second = (ensure_secret(home, name) for home in homes)

    assert first == second


def test_the_same_home_gives_the_same_secrets(settings: Settings, made: list[Manifest]) -> None:
    assert manifests(settings, "aidevos") == made


def test_kubernetes_accepts_the_secrets(made: list[Manifest]) -> None:
    for manifest in made:
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_a_key_that_is_due_is_replaced_only_once_all_pods_know_the_next_one(tmp_path: Path) -> None:
    """A pod sees a changed Secret late, and each pod at another time."""
    settings = load(URLS, home=tmp_path / "home")
    before = manifests(settings, "aidevos")
    due = msgspec.structs.replace(settings, key_age=0.001, key_notice=2.0)

    after = manifests(due, "aidevos")

    def ring(made: list[Manifest]) -> key_ring.Ring:
        file = data_of(made, "aidevos-authentication-keys")["signing.json"]
        return tuple(msgspec.json.decode(file, type=list[key_ring.Key]))

    (old,) = ring(before)
    following = ring(after)[-1]
    assert following.signs_from - following.made_at >= KEY_NOTICE
    assert key_ring.signer(ring(after), following.made_at).id == old.id
    published = json.loads(data_of(after, "aidevos-public")["jwks.json"])
    assert {jwk["kid"] for jwk in published["keys"]} == {old.id, following.id}


def test_one_user_of_mongodb_can_serve_all_services(settings: Settings) -> None:
    made = manifests(settings, "aidevos", shares_mongo_user=True)

    assert data_of(made, "aidevos-objects-env")["AIDEVOS_MONGO_URL"].decode() == URLS["AIDEVOS_MONGO_URL"]
    assert json.loads(data_of(made, "aidevos-provision-keys")["secrets.json"])["mongo"] == {}


def test_your_own_types_give_the_objects_service_their_rights(tmp_path: Path) -> None:
    made = manifests(load(URLS, home=tmp_path / "home"), "aidevos", DurableObjectRegistry([Basket]))

    assert json.loads(data_of(made, "aidevos-provision-keys")["types.json"]) == ["basket"]
    registered = json.loads(data_of(made, "aidevos-public")["services.json"])["objects"]["permissions"]
    assert "basket:write" in registered


def test_the_servers_map_to_the_partitions_of_the_fleet_whose_number_stays(tmp_path: Path) -> None:
    settings = load(URLS, home=tmp_path / "home", partitions=256)
    made = manifests(settings, "aidevos")

    assert b"partition(256," in data_of(made, "aidevos-nats")["aidevos.conf"]
    assert data_of(made, "aidevos-provision-env")["AIDEVOS_PARTITIONS"] == b"256"
    with pytest.raises(SettingsError, match="AIDEVOS_PARTITIONS must be 256"):
        manifests(msgspec.structs.replace(settings, partitions=64), "aidevos")


@pytest.mark.parametrize("missing", URLS)
def test_a_missing_server_is_one_line(tmp_path: Path, missing: str) -> None:
    urls = {name: url for name, url in URLS.items() if name != missing}
    with pytest.raises(SettingsError, match=missing):
        manifests(load(urls, home=tmp_path), "aidevos")


def _refuse(path: Path, content: bytes) -> None:
    raise PermissionError(13, "Permission denied")
