"""`aidevos openapi` and `asyncapi`: the documents of the fleet in use or, without one, of the shipped services.

The library imports no service. It finds the description by name: beside this package in a wheel
(`aidevos.services`), beside the library in a checkout (`services`).
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from typer import Option

from aidevos.cli.errors import CommandError
from aidevos.cli.target import find_optional_target
from aidevos.settings import load

if TYPE_CHECKING:
    from aidevos.durable.objects.object import BaseDurableObject

PACKAGES = ("aidevos.services", "services")
DESCRIPTION = "http_gateway.description"
Internal = Annotated[
    bool, Option("--internal", help="Include the types that services use themselves; requires fleet:read.")
]


def openapi(internal: Internal = False) -> None:
    """Print the OpenAPI document of the fleet.

    If no fleet is up, it describes the services as shipped.
    """
    print(_document("openapi", internal=internal))


def asyncapi(internal: Internal = False) -> None:
    """Print the AsyncAPI document of the NATS interface.

    If no fleet is up, it describes the services as shipped.
    """
    print(_document("asyncapi", internal=internal))


def _document(kind: str, *, internal: bool) -> str:
    """Return the document of the fleet in use, or of the shipped services if none is up. Raises `CommandError`."""
    target = find_optional_target()
    if target is None:
        home = load().home
        print(f"aidevos: no fleet is up under {home}: this describes the services as shipped", file=sys.stderr)
        return offline(kind, internal=internal).decode()

    from aidevos.cli.remote import call

    params = {"internal": True} if internal else None
    found = call(lambda api: api.call("GET", f"/{kind}.json", params=params, anonymous=not internal), target=target)
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def offline(kind: str = "openapi", *, internal: bool = False) -> bytes:
    """Return the document of the shipped types, without declared routes. Raises `CommandError`."""
    from aidevos.durable.objects.registry import DurableObjectRegistry

    package = services()
    describe = importlib.import_module(f"{package.__name__}.{DESCRIPTION}.{kind}").describe
    types = DurableObjectRegistry(shipped_types(package)).types
    return msgspec.json.encode(describe([types[name].description for name in sorted(types)], internal=internal))


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
