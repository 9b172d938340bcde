"""`aidevos openapi`: the OpenAPI document of the running fleet or, without one, of the shipped services.

The library imports no service. It finds the description by name: beside this package in a wheel
(`aidevos.services`), beside the library in a checkout (`services`).
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from aidevos.cli.errors import CommandError
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.fleet import FLEET_FILE, load_fleet
from aidevos.settings import load

PACKAGES = ("aidevos.services", "services")
DESCRIPTION = "http_gateway.description.openapi"


def openapi() -> None:
    """Print the OpenAPI document of the fleet, or of the shipped services."""
    print(document(load().home))


def document(home: Path) -> str:
    """Return the document of the fleet under `home`, or of the shipped services if none is up.

    Raises `CommandError`.
    """
    if not (home / FLEET_FILE).exists():
        print(f"aidevos: no fleet is up under {home}: this describes the services as shipped", file=sys.stderr)
        return offline().decode()
    url = load_fleet(home).gateway_url + "/openapi.json"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 the fleet's own URL
            found: str = answer.read().decode()
    except (OSError, ValueError) as error:
        raise CommandError(f"can't read {url}: {error}", 1) from None
    return found


def offline() -> bytes:
    """Return the document of the shipped types, without declared routes. Raises `CommandError`."""
    package = services()
    describe = importlib.import_module(f"{package.__name__}.{DESCRIPTION}").describe
    types = DurableObjectRegistry(shipped_types(package)).types
    return msgspec.json.encode(describe([types[name].description for name in sorted(types)]))


def shipped_types(services: ModuleType) -> list[type[BaseDurableObject[Any]]]:
    """Return the object types that the services in a package declare."""
    packages = pkgutil.iter_modules(services.__path__, f"{services.__name__}.")
    names = [name for name in (f"{package.name}.service" for package in packages) if find_spec(name)]
    return [cls for name in names for cls in importlib.import_module(name).service.types]


def services() -> ModuleType:
    """Return the package of the shipped services. Raises `CommandError`."""
    for name in PACKAGES:
        if find_spec(name) is not None:
            return importlib.import_module(name)
    raise CommandError(f"the services aren't installed: {' or '.join(PACKAGES)}")
