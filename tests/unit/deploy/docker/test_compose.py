"""The container description: complete, closed to other machines, and free of secrets."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
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
from deploy.local.programs import SERVICES, Service, grace
from tests.support.paths import ROOT

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
IMAGE_LOCK = ROOT / "deploy/docker/requirements.lock"
SERVERS = {"nats", "mongo", "rabbitmq"}
ONE_SHOTS = {"setup", "provision"}
OBSERVABILITY = {"prometheus", "grafana", "jaeger"}
COMPOSE = Path(sys.executable).with_name("docker-compose")
# A secret that someone may give, the services that need it, and the file in which a container finds it.
GIVEN = {
    "AIDEVOS_SECRET_KEY": {"authentication", "projects", "events"},
    "AIDEVOS_ADMIN_PASSWORD": {"user_management", "provision"},
    "AIDEVOS_SMTP_URL": {"authentication"},
}
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)


@pytest.fixture
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def resolved(**environment: str) -> dict[str, Any]:
    """Return what Docker Compose itself makes of the file in this environment."""
    command = [COMPOSE, "--file", ROOT / "docker-compose.yml", "config", "--format", "json"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def test_every_service_and_server_of_the_fleet_has_a_container(compose: dict[str, Any]) -> None:
    services = {service.name for service in SERVICES} | SERVERS | ONE_SHOTS

    assert set(compose["services"]) == services | OBSERVABILITY
    assert set(resolved()["services"]) == services
    assert set(resolved(COMPOSE_PROFILES="observability")["services"]) == services | OBSERVABILITY


def test_what_ends_is_started_again_and_keeps_its_name(compose: dict[str, Any]) -> None:
    for name in compose["services"].keys() - ONE_SHOTS:
        service = compose["services"][name]
        assert service["restart"] == "unless-stopped", name
        assert service["hostname"] == name


def test_a_healthy_container_is_seldom_asked(compose: dict[str, Any]) -> None:
    """Each question starts a process, and Python or Erlang need up to a second of CPU to start."""
    # Jaeger's image has neither a shell nor another program.
    for name in SERVERS | OBSERVABILITY - {"jaeger"}:
        check = compose["services"][name]["healthcheck"]
        assert check["interval"] == "30s", name
        assert int(check["start_interval"].removesuffix("s")) <= 10, name
        assert check["test"][1] != "rabbitmq-diagnostics"
    assert re.search(r"^HEALTHCHECK --interval=30s .*--start-interval=10s", DOCKERFILE.read_text(), re.MULTILINE)


def test_a_container_is_asked_for_itself_however_many_of_its_service_run(compose: dict[str, Any]) -> None:
    image = DOCKERFILE.read_text()
    (port,) = re.findall(r"AIDEVOS_PROBE_PORT=(\d+)", image)

    assert f"http://127.0.0.1:{port}/health/ready" in image.split("HEALTHCHECK")[1]
    for service in SERVICES:
        container = compose["services"][service.name]
        assert "healthcheck" not in container
        assert "AIDEVOS_PROBE_PORT" not in container["environment"]
    for name in ONE_SHOTS:
        assert compose["services"][name]["healthcheck"] == {"disable": True}


def test_a_container_of_ours_writes_to_its_volumes_and_to_memory_alone(compose: dict[str, Any]) -> None:
    for name in {service.name for service in SERVICES} | ONE_SHOTS:
        container = compose["services"][name]
        assert container["read_only"] is True
        assert [place.split(":")[0] for place in container["tmpfs"]] == ["/tmp"]
        assert container["cap_drop"] == ["ALL"]


def test_every_container_has_a_limit_of_memory_that_suits_its_settings() -> None:
    limits = {
        name: int(container["deploy"]["resources"]["limits"]["memory"])
        for name, container in resolved(COMPOSE_PROFILES="observability")["services"].items()
    }

    for service in SERVICES:
        assert limits[service.name] >= 2 * load({}).max_memory
    # MongoDB's cache takes half of it.
    assert limits["mongo"] == 2 * 1024**3


def test_the_profile_shows_metrics_and_traces_to_this_machine_alone() -> None:
    document = resolved(COMPOSE_PROFILES="observability")
    containers = document["services"]
    (job,) = yaml.safe_load((ROOT / "deploy/observability/prometheus.compose.yml").read_text())["scrape_configs"]
    (search,) = job["dns_sd_configs"]

    assert set(search["names"]) == {service.name for service in SERVICES}
    for service in SERVICES:
        environment = containers[service.name]["environment"]
        assert environment["AIDEVOS_METRICS_PORT"] == str(search["port"])
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4318"
    for name in OBSERVABILITY:
        assert {port["host_ip"] for port in containers[name].get("ports", ())} <= {"127.0.0.1"}
    for volume in containers["prometheus"]["volumes"] + containers["grafana"]["volumes"]:
        assert volume["type"] == "volume" or Path(volume["source"]).exists()


def test_without_the_profile_there_are_no_traces() -> None:
    elsewhere = resolved(OTEL_EXPORTER_OTLP_ENDPOINT="https://traces.example.org")["services"]

    assert resolved()["services"]["objects"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == ""
    assert elsewhere["objects"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://traces.example.org"


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
        stop = compose["services"][service.name]["stop_grace_period"]
        assert int(stop.removesuffix("s")) == grace(load({}))


def test_ports_are_open_to_this_machine_alone_by_default(compose: dict[str, Any]) -> None:
    fleet = [each for each in compose["services"].items() if each[0] not in OBSERVABILITY]
    published = {name: service["ports"] for name, service in fleet if "ports" in service}
    assert published.keys() == {"http_gateway", "nats"}
    for ports in published.values():
        assert [port["host_ip"] for port in ports] == ["${AIDEVOS_HOST:-127.0.0.1}"]


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search("PASS|SECRET|TOKEN|KEY|COOKIE", variable)
            assert value is None or not secret or variable.endswith("_FILE"), f"{name}: {variable}"
            assert "@" not in str(value), f"{name}: {variable}"


def test_images_are_pinned_by_tag(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    images += re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[a-z/]+:[a-z0-9][a-z0-9.-]*", image), image
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
    permissions = service.load_permissions()
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


def test_a_secret_reaches_the_services_that_need_it_as_a_file() -> None:
    plain = resolved()["services"]
    given = resolved(**{f"{variable}_FILE": "/etc/secrets/given" for variable in GIVEN})

    for variable, needing in GIVEN.items():
        secret = variable.removeprefix("AIDEVOS_").lower()
        file = f"{variable}_FILE"
        assert {name for name, each in given["services"].items() if file in each.get("environment", {})} == needing
        assert given["secrets"][secret]["file"] == "/etc/secrets/given"
        for name in needing:
            container = given["services"][name]
            assert container["environment"][file] == f"/run/secrets/{secret}"
            assert secret in [each["source"] for each in container["secrets"]]
            assert not plain[name]["environment"][file]


def test_compose_passes_a_secret_of_the_environment_to_the_services_that_need_it() -> None:
    passed = resolved(**dict.fromkeys(GIVEN, "hidden"))["services"]

    for variable, needing in GIVEN.items():
        values = {name: each.get("environment", {}).get(variable) for name, each in passed.items()}
        assert {name for name, value in values.items() if value == "hidden"} == needing


def test_the_bill_of_materials_names_every_package_of_the_image(tmp_path: Path) -> None:
    made = subprocess.run(["make", "sbom", f"SBOM={tmp_path / 'sbom.json'}"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    bill = json.loads((tmp_path / "sbom.json").read_text())
    named = {part["name"]: part["version"] for part in bill["components"]}

    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "aidevos"
    assert named == dict(PIN.findall(IMAGE_LOCK.read_text()))
