"""`aidevos dev`: serves a user's code, and each change of it at once."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from aidevos.cli.dev.target import find_target
from aidevos.settings import load

if TYPE_CHECKING:
    from aidevos.cli.dev.loop import Loop
    from aidevos.process.fleet import Fleet

# Seconds: the life of the token, and those beyond the time to drain in which a process ends.
TOKEN_LIFE = 8 * 3600.0
MORE = 5.0
# Seconds within which a fleet that is up answers.
READY_WITHIN = 2.0


def dev(
    code: Annotated[
        str, Argument(metavar="FILE|MODULE|PACKAGE", help="Your code, such as shop.py, shop.carts or the folder shop.")
    ],
    page_port: Annotated[
        int, Option(min=1, max=65535, help="The port of the page in the folder `web`, if there is one.")
    ] = 8000,
) -> None:
    """Serve your code, and each change of it at once.

    It serves all object types and tasks in the code, and the page in the folder `web`. The fleet under AIDEVOS_HOME is
    started if it isn't up, and stays up at the end.

    Example: aidevos dev shop.py
    """
    from aidevos.cli.dev.loop import Loop
    from aidevos.cli.dev.page import find_page, origins, serving_page
    from aidevos.cli.dev.screen import Screen
    from aidevos.cli.tokens import issue

    target, page = find_target(code), find_page(Path())
    if page is not None:
        # For a fleet that isn't up yet.
        os.environ.setdefault("AIDEVOS_CORS_ORIGINS", origins(page_port))
    settings = load()
    fleet = _ensure_up(settings.home)
    screen = Screen(target.name, fleet.gateway_url, issue(["admin"], [], "dev", TOKEN_LIFE))
    with ExitStack() as stack:
        if page is not None:
            screen.show_page(stack.enter_context(serving_page(page, page_port, fleet.gateway_url)))
        asyncio.run(_run(Loop(target, screen, settings.drain_timeout + MORE)))
    print("The fleet stays up; `aidevos down` stops it.")


def _ensure_up(home: Path) -> Fleet:
    """Return the fleet under this home, after starting it unless it is ready. Raises `CommandError`."""
    from aidevos.cli.local import up
    from aidevos.process.fleet import FLEET_FILE, load_fleet
    from aidevos.process.supervised import wait_until_ready

    if not ((home / FLEET_FILE).exists() and wait_until_ready(load_fleet(home).gateway_url, READY_WITHIN)):
        print(f"Starting the fleet under {home} …", flush=True)
        up()
    return load_fleet(home)


async def _run(loop: Loop) -> None:
    """Run until SIGINT or SIGTERM. A second one leaves without waiting for what is in progress."""
    running = asyncio.ensure_future(loop.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
