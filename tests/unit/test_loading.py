"""What each program loads: no process takes memory or time for a library that it doesn't use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache

import pytest

import aidevos
from deploy.local.programs import PACKAGE, SERVICES, Service
from tests.support.paths import ROOT

# Libraries that only some programs need, and the services that do.
SPECIAL = {
    "aio_pika": (),
    "aiosmtplib": (),
    "anyio": ("http_gateway",),
    "argon2": ("authentication", "user_management"),
    "boto3": (),
    "email_validator": ("authentication", "user_management"),
    "httpx2": ("events", "task_worker"),
    "jsonschema_rs": ("data_storage",),
    "mcp": (),
    "obstore": (),
    "opentelemetry": (),
    "pydantic": (),
    "pyrage": (),
    "rich": (),
    "segno": (),
    "starlette": ("http_gateway",),
    "structlog": (),
    "supervisor": (),
    "typer": (),
    "uvicorn": ("http_gateway",),
}
# What the supervisor needs none of: it runs no event loop, and connects to no server.
HEAVY = {"asyncio", "bcrypt", "cryptography", "jwt", "motor", "nats", "prometheus_client", "pymongo", *SPECIAL} - {
    "supervisor"
}


# Prints a line with the modules that each service loads. All load the same ones first, so those are loaded once.
LOAD_SERVICES = """
import importlib, os, sys
import aidevos.process.serving
for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        print(name, *(name for name, module in sys.modules.items() if module), flush=True)
        os._exit(0)
    os.wait()
"""


def load(*modules: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after these modules."""
    code = f"import sys, {', '.join(modules)}; print(*(name for name, module in sys.modules.items() if module))"
    return packages(run(code).split())


def run(code: str, *arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def packages(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@cache
def loaded_by_services() -> dict[str, set[str]]:
    """Return the packages that the process of each service has loaded, by the name of its module."""
    names = [entry_of(service) for service in SERVICES]
    lines = [line.split() for line in run(LOAD_SERVICES, *names).splitlines()]
    return {name: packages(modules) for name, *modules in lines}


def entry_of(service: Service) -> str:
    return f"{PACKAGE}.{service.name}.{'bootstrap' if service.listens else 'service'}"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_loads_no_library_that_it_does_not_use(service: Service) -> None:
    loaded = loaded_by_services()[entry_of(service)]

    assert sorted(loaded & SPECIAL.keys()) == sorted(name for name, users in SPECIAL.items() if service.name in users)


def test_the_supervisor_loads_nothing_of_the_framework() -> None:
    assert load("deploy.local.supervisor") & HEAVY == set()


def test_what_forked_processes_load_later_is_loaded_before() -> None:
    loaded = load("deploy.local.preloaded")

    assert {"motor", "nats", "structlog"} <= loaded
    assert loaded & {"rich", "opentelemetry", "aio_pika"} == set()


def test_reading_settings_loads_no_other_part_of_the_package() -> None:
    assert load("aidevos.settings") & {"asyncio", "cryptography", "nats", "bson", "prometheus_client"} == set()


def test_the_package_exports_exactly_the_names_that_it_can_load() -> None:
    assert {*aidevos.__all__} == {*aidevos._MODULES} <= {*dir(aidevos)}
    assert all(getattr(aidevos, name) is not None for name in aidevos.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aidevos.nothing  # noqa: B018
