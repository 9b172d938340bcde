"""The container description: complete, closed to other machines, and free of secrets."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from aidevos.security import service_keys
from aidevos.security.credentials import ServiceCredential
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.keys import ensure_secret, load_ring
from aidevos.security.service_keys import ServiceSigningKeys, VerificationKeys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import load
from deploy.docker.__main__ import setup
from deploy.local.programs import SERVICES, Service
from tests.support.paths import ROOT

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
IMAGE_LOCK = ROOT / "deploy/docker/requirements.lock"
SERVERS = {"nats", "mongo", "rabbitmq"}
ONE_SHOTS = {"setup", "provision"}
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)


@pytest.fixture
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_every_service_and_server_of_the_fleet_has_a_container(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {service.name for service in SERVICES} | SERVERS | ONE_SHOTS


def test_what_ends_is_started_again_and_keeps_its_name(compose: dict[str, Any]) -> None:
    for name in compose["services"].keys() - ONE_SHOTS:
        service = compose["services"][name]
        assert service["restart"] == "unless-stopped", name
        assert service["hostname"] == name
        assert service["healthcheck"]["test"], name


def test_a_healthy_container_is_seldom_asked(compose: dict[str, Any]) -> None:
    """Each question starts a process, and Python or Erlang need up to a second of CPU to start."""
    for name in compose["services"].keys() - ONE_SHOTS:
        check = compose["services"][name]["healthcheck"]
        assert check["interval"] == "30s", name
        assert int(check["start_interval"].removesuffix("s")) <= 10, name
        assert check["test"][1] != "rabbitmq-diagnostics"


def test_a_container_is_asked_for_itself_however_many_of_its_service_run(compose: dict[str, Any]) -> None:
    for service in SERVICES:
        container = compose["services"][service.name]
        port = container["environment"]["AIDEVOS_PROBE_PORT"]
        assert f"http://127.0.0.1:{port}/health/ready" in container["healthcheck"]["test"][-1]


def test_a_service_can_be_scaled(compose: dict[str, Any]) -> None:
    """Containers of one service share its home, where each takes a free name, and nothing else of theirs is fixed."""
    for service in SERVICES:
        container = compose["services"][service.name]
        assert "container_name" not in container
        # A variable, which may be a range of ports.
        published = {port["published"] for port in container.get("ports", ())}
        assert published == ({"${AIDEVOS_PORT:-8080}"} if service.name == "http_gateway" else set())


def test_a_service_has_time_to_drain(compose: dict[str, Any]) -> None:
    for service in SERVICES:
        grace = compose["services"][service.name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > load({}).drain_timeout


def test_ports_are_open_to_this_machine_alone_by_default(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published.keys() == {"http_gateway", "nats"}
    for ports in published.values():
        assert [port["host_ip"] for port in ports] == ["${AIDEVOS_HOST:-127.0.0.1}"]


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search("PASS|SECRET|TOKEN|KEY|COOKIE", variable)
            assert value is None or not secret, f"{name}: {variable}"
            assert "@" not in str(value), f"{name}: {variable}"


def test_images_are_pinned_by_tag(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[a-z]+:[a-z0-9][a-z0-9.-]*", image), image
        assert not image.endswith(":latest")


def test_the_image_is_built_from_the_dockerfile_and_drops_root(compose: dict[str, Any]) -> None:
    assert ROOT / compose["services"]["setup"]["build"]["dockerfile"] == DOCKERFILE
    assert DOCKERFILE.read_text().splitlines()[-1] == "USER aidevos"
    assert all(compose["services"][name]["user"] == "999:999" for name in SERVERS)


def test_the_image_installs_what_the_project_needs_in_the_versions_that_are_tested() -> None:
    tested = dict(PIN.findall((ROOT / "requirements.lock").read_text()))
    installed = dict(PIN.findall(IMAGE_LOCK.read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[<>=~!; ]", line)[0] for line in project["dependencies"]}
    command = IMAGE_LOCK.read_text().splitlines()[1]
    assert needed <= installed.keys(), command
    assert installed.items() <= tested.items(), command


def test_the_setup_makes_secrets_for_their_owner_alone_and_keeps_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("nats", "mongo", "rabbitmq"):
        (home / folder).mkdir(parents=True)
    secret = (
        "secrets.json",
        "keys/signing.json",
        "service_keys/objects.json",
        "nats/nats.conf",
        "mongo/key",
        "rabbitmq/rabbitmq.conf",
    )
    setup(load({}, home=home))
    made = [(home / name).read_bytes() for name in secret]
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in secret] == [0o600] * len(secret)
    setup(load({}, home=home))
    assert [(home / name).read_bytes() for name in secret] == made


@pytest.fixture(scope="module")
def owners_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owner's home after `setup`, which found keys there of the time when all services shared them."""
    home = tmp_path_factory.mktemp("containers") / "home"
    for folder in ("nats", "mongo", "rabbitmq"):
        (home / folder).mkdir(parents=True)
    for name in ("sealing.key", "cursors", "api_keys.key", "csrf.key", "refresh.key"):
        ensure_secret(home, name)
    setup(load({}, home=home))
    return home


def home_of(compose: dict[str, Any], service: str, owners_home: Path, target: Path) -> Path:
    """What the container of a service sees as its home, as far as it is not on its own file system."""
    for volume in compose["services"][service]["volumes"]:
        assert volume["source"] == "fleet"
        place = target / Path(volume["target"]).relative_to("/var/lib/aidevos")
        shutil.copytree(owners_home / volume["volume"]["subpath"], place, dirs_exist_ok=True)
    return target


def contents(home: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_sees_its_own_secrets_and_no_others(
    compose: dict[str, Any], owners_home: Path, tmp_path: Path, service: Service
) -> None:
    seen = contents(home_of(compose, service.name, owners_home, tmp_path))
    secrets = load_secrets(owners_home)

    def key_of(name: str) -> str:
        found: str = json.loads((owners_home / "service_keys" / f"{name}.json").read_bytes())["private"]
        return found

    assert {name for name, password in secrets.nats.items() if password in seen} == {service.user}
    assert {name for name, password in secrets.mongo.items() if password in seen} == (
        {service.name} if service.stores else set()
    )
    assert {each.name for each in SERVICES if key_of(each.name) in seen} == {service.name}
    assert (load_ring(owners_home)[0].private in seen) == (service.name == "authentication")
    assert (secrets.admin_password in seen) == (service.name == "user_management")
    assert secrets.mongo_key not in seen


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_has_what_it_signs_with_though_it_may_register_nothing(
    compose: dict[str, Any], owners_home: Path, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load({}, home=home_of(compose, service.name, owners_home, tmp_path))

    def read_only(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(service_keys, "write_secret", read_only)
    permissions = service.types.permissions()
    credential = ServiceCredential(settings, service.name, permissions)
    ServiceSigningKeys(settings.home, service.name, acts_for_others=service.acts_for_others)
    verifier = TokenVerifier(VerificationKeys(settings.home), settings.public_url)
    assert verifier.verify(credential.authorization()).permissions == permissions


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("authentication", "sealing.key"),
        ("authentication", "refresh.key"),
        ("projects", "sealing.key"),
        ("events", "sealing.key"),
        ("data_storage", "cursors"),
        ("api_gateway", "api_keys.key"),
        ("http_gateway", "csrf.key"),
    ],
)
def test_what_was_encrypted_before_services_had_homes_can_still_be_read(
    compose: dict[str, Any], owners_home: Path, tmp_path: Path, service: str, name: str
) -> None:
    home = home_of(compose, service, owners_home, tmp_path)
    assert (home / "keys" / name).read_bytes() == (owners_home / "keys" / name).read_bytes()


def test_only_the_issuer_may_write_what_verifies_tokens(compose: dict[str, Any]) -> None:
    for service in SERVICES:
        volumes = compose["services"][service.name]["volumes"]
        (public,) = (volume for volume in volumes if volume["volume"]["subpath"] == "public")
        assert public.get("read_only", False) == (service.name != "authentication"), service.name


def test_the_settings_with_secrets_reach_the_services_that_need_them(compose: dict[str, Any]) -> None:
    services = compose["services"]
    having = {
        variable: {name for name in services if variable in services[name].get("environment", {})}
        for variable in ("AIDEVOS_SECRET_KEY", "AIDEVOS_ADMIN_PASSWORD", "AIDEVOS_SMTP_URL")
    }
    assert having == {
        "AIDEVOS_SECRET_KEY": {"authentication", "projects", "events"},
        "AIDEVOS_ADMIN_PASSWORD": {"user_management", "provision"},
        "AIDEVOS_SMTP_URL": {"authentication"},
    }


def test_docker_compose_accepts_the_file_where_it_is_installed(compose: dict[str, Any]) -> None:
    """All other tests read the file as YAML, so they need no Docker."""
    assert compose["name"] == "aidevos"
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        return
    checked = subprocess.run(
        [docker, "compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
