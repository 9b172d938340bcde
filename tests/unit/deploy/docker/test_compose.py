"""The container description: complete, closed to other machines, and free of secrets."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from aidevos.settings import load
from deploy.docker.__main__ import setup
from deploy.local.programs import SERVICES
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
    secret = ("secrets.json", "keys/signing.json", "nats/nats.conf", "mongo/key", "rabbitmq/rabbitmq.conf")
    setup(load({}, home=home))
    made = [(home / name).read_bytes() for name in secret]
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in secret] == [0o600] * len(secret)
    setup(load({}, home=home))
    assert [(home / name).read_bytes() for name in secret] == made


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
