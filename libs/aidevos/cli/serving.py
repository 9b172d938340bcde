"""`aidevos serve`, `grant` and `work`: your own types and tasks in a running fleet."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from aidevos.cli.dev.target import find_target, is_package
from aidevos.cli.errors import CommandError
from aidevos.cli.user_modules import is_own, resources_in
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.process.service import Service
from aidevos.settings import load

if TYPE_CHECKING:
    from aidevos.cli.dev.code import Code

Types = Annotated[
    list[str],
    Argument(
        metavar="MODULE:CLASS|PACKAGE",
        help="Object types, such as my_package.objects:Counter, a single aidevos.Service, or a whole package.",
    ),
]
Modules = Annotated[
    list[str],
    Argument(metavar="MODULE|PACKAGE", help="Modules with handlers, such as my_package.tasks, or a package."),
]

# A name in log lines.
MOST_CHARACTERS = 64
Name = Annotated[
    str, Option(metavar="NAME", help="What log lines and traces call this process, by default its first module.")
]


def serve(types: Types, name: Name = "") -> None:
    """Host your own object types in the running fleet.

    The process joins the fleet under AIDEVOS_HOME, over NATS and MongoDB.

    Example: aidevos serve shop:Cart shop:Order
    """
    sys.path.insert(0, "")
    service = load_service(types)

    from aidevos.durable.objects.registry import DurableObjectRegistry
    from aidevos.process.fleet import fleet_settings
    from aidevos.process.serving import run

    _check(service)
    registered = DurableObjectRegistry(service.types).types
    settings = fleet_settings(load().home, service.name, registered)
    run(service, settings, name=_choose_name(name, types), reports_health=False)


def grant(types: Types) -> None:
    """Let a service host your own object types.

    `aidevos serve` arranges that by itself, where it can read the home of the fleet.

    Example: aidevos grant shop:Cart
    """
    sys.path.insert(0, "")
    service = load_service(types)

    from aidevos.durable.objects.registry import DurableObjectRegistry
    from aidevos.process.fleet import fleet_settings
    from aidevos.security.service_keys import register

    _check(service)
    settings = load()
    registry = DurableObjectRegistry(service.types)
    fleet_settings(settings.home, service.name, registry.types)
    try:
        register(settings.home, service.name, registry.permissions())
    except OSError as error:
        raise CommandError(f"can't register {service.name} under AIDEVOS_HOME={settings.home}: {error}") from None


def work(modules: Modules, name: Name = "") -> None:
    """Run your own kinds of tasks in the running fleet.

    The process joins the fleet under AIDEVOS_HOME, over NATS.

    Example: aidevos work shop.tasks
    """
    sys.path.insert(0, "")
    service = _load_worker(modules)

    from aidevos.process.fleet import fleet_settings
    from aidevos.process.serving import run

    if not service.tasks:
        raise CommandError(f"no function in {', '.join(modules)} is a @task")
    settings = fleet_settings(load().home, service.name)
    run(service, settings, name=_choose_name(name, modules), reports_health=False)


def _load_worker(names: Sequence[str]) -> Service:
    """Return the service of the handlers in these modules, or in a package with all its modules."""
    if len(names) == 1 and is_package(names[0]):
        return _load_code(names[0]).tasks
    imported = [_import(name, name) for name in dict.fromkeys(names)]

    from aidevos.process.serving import check
    from aidevos.work.handlers import handlers_in
    from aidevos.work.process import group_name, worker_service

    try:
        service = worker_service(handlers_in(imported), group=group_name(names), resources=resources_in(imported))
        check(service)
    except TypeError as error:
        raise CommandError(str(error)) from None
    return service


def _load_code(name: str) -> Code:
    """Return everything in a file, module or package. Raises `CommandError`."""
    from aidevos.cli.dev.code import Code, CodeError

    try:
        return Code(find_target(name))
    except CodeError as error:
        raise CommandError(f"{name}: {error.summary}") from None


def _choose_name(name: str, paths: Sequence[str]) -> str:
    """Return the name of a process in log lines. Raises `CommandError`."""
    if len(name) > MOST_CHARACTERS or not name.isprintable():
        raise CommandError(f"--name {name!r} must have at most {MOST_CHARACTERS} printable characters")
    return name or paths[0].partition(":")[0]


def _check(service: Service) -> None:
    """Raise `CommandError` for a service that can't be run."""
    from aidevos.process.serving import check

    try:
        check(service)
    except TypeError as error:
        raise CommandError(str(error)) from None


def load_service(paths: Sequence[str]) -> Service:
    """Return the `Service` at `package.module:name`, or a service made of the object classes at these paths.

    The latter uses the resources in the classes' modules. A single path without a colon stands for all classes of a
    package, module or file. Raises `CommandError`.
    """
    if len(paths) == 1 and ":" not in paths[0]:
        service = _load_code(paths[0]).objects
        if not service.types:
            raise CommandError(f"{paths[0]} has no object type")
        return service
    found = [_load(path) for path in paths]
    for each in found:
        if isinstance(each, Service):
            if len(found) > 1:
                raise CommandError(f"{paths[found.index(each)]} is a Service: serve it in a separate process")
            return each
    names = dict.fromkeys(name for path, cls in zip(paths, found, strict=True) for name in (path, cls.__module__))
    modules = [sys.modules[name.partition(":")[0]] for name in names]
    return Service("objects", types=found, resources=resources_in(modules))


def _load(path: str) -> Any:
    """Return the `Service` or durable object class at `package.module:name`. Raises `CommandError`."""
    module_name, colon, name = path.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise CommandError(f"{path!r} must have the form package.module:Class")
    module = _import(module_name, path)
    found = getattr(module, name, None)
    if found is None:
        raise CommandError(f"{path}: the module has no {name}")
    is_class = isinstance(found, type) and issubclass(found, BaseDurableObject) and found is not BaseDurableObject
    if not (is_class or isinstance(found, Service)):
        raise CommandError(f"{path} is neither a durable object class nor a Service")
    return found


def _import(name: str, path: str) -> ModuleType:
    """Return a user's module; errors name it by `path`. Raises `CommandError`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CommandError(f"{path}: there is no module {error.name}{_place(error)}") from None
    except Exception as error:  # whatever a user's module raises while it is imported
        raise CommandError(
            f"{path}: the module can't be imported: {type(error).__name__}: {error}{_place(error)}"
        ) from error


def _place(error: Exception) -> str:
    """Return the file and line of a user's module at which an import failed, or "" if it failed before any."""
    if isinstance(error, SyntaxError):
        return ""  # Its own text names them.
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    return f" (in {own[-1].filename}, line {own[-1].lineno})" if own else ""
