"""`aidevos up`, `down`, `restart` and `scale`: the fleet on this machine, without containers.

The library knows no deployment. It finds the package by name: beside this one in a wheel (`aidevos.deploy`), beside
the library in a checkout (`deploy`).
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

from typer import Argument, Option

from aidevos.cli.errors import UNREACHABLE, CommandError
from aidevos.settings import MAX_REPLICAS, load

PACKAGES = ("aidevos.deploy", "deploy")
Replicas = Annotated[int, Argument(min=1, max=MAX_REPLICAS, help="The number of its processes.")]


def up(
    replicas: Annotated[
        int, Option(min=1, max=MAX_REPLICAS, help="The processes of each service that hosts objects.")
    ] = 1,
) -> None:
    """Start the fleet on this machine.

    It starts NATS, MongoDB and every service, and returns when all are ready. Data, keys and logs are under
    AIDEVOS_HOME. If the fleet is up already, nothing changes.
    """
    _run("up", replicas)


def down() -> None:
    """End the fleet on this machine.

    Every process ends, and all data stays.
    """
    _run("down")


def restart(
    service: Annotated[str, Argument(metavar="SERVICE", help="By default all services.", show_default=False)] = "",
) -> None:
    """Replace processes one by one, without losing a request.

    The new ones have the settings of this shell.
    """
    _run("restart", service)


def scale(
    service: Annotated[str, Argument(metavar="SERVICE", help="The service, such as objects.")], replicas: Replicas
) -> None:
    """Change the number of a service's processes.

    Example: aidevos scale objects 3
    """
    _run("scale", service, replicas)


def _run(command: str, *arguments: Any) -> None:
    """Run a command of the launcher and print its sentence. Raises `CommandError` or `SettingsError`."""
    launcher, control = _local_deployment()
    # Only the owner may read the files that the fleet writes.
    os.umask(0o077)
    try:
        print(getattr(launcher, command)(load(), *arguments))
    except (control.FleetError, OSError) as error:
        raise CommandError(str(error), UNREACHABLE) from None


def _local_deployment() -> tuple[Any, Any]:
    for package in PACKAGES:
        if find_spec(package) is not None:
            try:
                return import_module(f"{package}.local.launcher"), import_module(f"{package}.local.control")
            except ModuleNotFoundError as error:
                if error.name is None or error.name.startswith(package):
                    raise
                raise CommandError(f"{error.name} is missing: pip install 'aidevos[embedded]'") from None
    raise CommandError(f"the deployment isn't installed: {' or '.join(PACKAGES)}")
