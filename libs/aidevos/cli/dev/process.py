"""A process that serves one version of a user's code: `python -m aidevos.cli.dev.process ROLE TARGET`.

It loads the framework at once, and the code only when the loop says so: a change takes effect soon. Its messages go to
standard output. What the code itself prints goes to standard error.

Promise: the process ends when the loop does, however that ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

from aidevos.cli.dev.code import Code, CodeError
from aidevos.cli.dev.messages import Joined, Loaded, Message, Refused, Role, Unfit
from aidevos.cli.dev.shown import show_tasks, show_types
from aidevos.cli.dev.stored import find_unfit
from aidevos.cli.dev.target import Target, find_target
from aidevos.durable.objects.registry import ObjectType
from aidevos.process.fleet import fleet_settings
from aidevos.process.serving import run
from aidevos.settings import Settings, SettingsError, load

Tell = Callable[[Message], None]


def main(role: Role, target: Target) -> int:
    """Serve the objects or the tasks of the target, and return the exit status."""
    tell = _open_messages()
    if not os.read(0, 1):
        return 0
    threading.Thread(target=_end_with_loop, daemon=True).start()
    try:
        code = Code(target)
    except CodeError as error:
        tell(Refused(str(error)))
        return 1
    tell(Loaded(show_types(code.types.values()), show_tasks(code.handlers), code.files))
    try:
        _serve(role, target, code, tell)
    except SettingsError as error:
        print(f"aidevos: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(role: Role, target: Target, code: Code, tell: Tell) -> None:
    home = load().home
    if role == "tasks":
        settings = fleet_settings(home, code.tasks.name)
        run(code.tasks, settings, name=f"{target.module}-tasks", reports_health=False, on_joined=lambda: tell(Joined()))
        return
    if not code.types:
        return
    settings, types = fleet_settings(home, code.objects.name, code.types), list(code.types.values())

    def report_joined() -> None:
        tell(Joined())
        threading.Thread(target=_try_stored, args=(tell, settings, types), daemon=True).start()

    run(code.objects, settings, name=target.module, reports_health=False, on_joined=report_joined)


def _try_stored(tell: Tell, settings: Settings, types: list[ObjectType]) -> None:
    for problem in find_unfit(settings, types):
        tell(Unfit(problem))


def _open_messages() -> Tell:
    """Return what sends a message to the loop. From now on, standard output is standard error."""
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def tell(message: Message) -> None:
        messages.write(msgspec.json.encode(message) + b"\n")

    return tell


def _end_with_loop() -> None:
    """Stop the process once nobody can write to its standard input any more."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], find_target(sys.argv[2])))  # type: ignore[arg-type]
