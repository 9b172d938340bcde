"""The loop of `aidevos dev`: it serves each version of a user's code by processes of its own.

Promises: no request is lost over a change. The processes of the new code join the fleet first; then those of the old
code hand over what they own, and finish what they have begun. Code that can't be served changes nothing. When the loop
ends, so do its processes.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from aidevos.cli.dev.messages import Joined, Loaded, Message, Refused, Role, Unfit, decode
from aidevos.cli.dev.screen import Screen
from aidevos.cli.dev.target import Target
from aidevos.durable.base.backoff import Backoff

# Seconds between two looks at the files.
LOOK_EVERY = 0.1
# Seconds after which the screen says that the old code still has something to finish.
FINISHED_WITHIN = 0.5
# Pauses after which the code is served again when its process has ended by itself.
RESTARTS = Backoff(1.0, 30.0)
LONGEST_MESSAGE = 16 * 1024 * 1024
# For the code's own logs; of the framework, only what is wrong. A process that starts isn't well for a moment.
ENVIRONMENT = {
    "AIDEVOS_LOG_FORMAT": "console",
    "AIDEVOS_LOG_LEVEL": "INFO,aidevos=WARNING,aidevos.observability.health=ERROR",
    "PYTHONUNBUFFERED": "1",
}
Stamps = dict[str, tuple[int, int, int]]


class CodeProcess:
    """A process for one version of the code. It waits for `go`, and then loads and serves the code."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = cast(asyncio.StreamWriter, process.stdin)
        self._messages = cast(asyncio.StreamReader, process.stdout)

    @classmethod
    async def start(cls, role: Role, target: Target) -> CodeProcess:
        line = [sys.executable, "-P", "-m", "aidevos.cli.dev.process", role, target.name]
        environment = {**ENVIRONMENT, **os.environ}
        pipe = asyncio.subprocess.PIPE
        # Ctrl-C reaches the loop alone, which ends its processes in order.
        started = await asyncio.create_subprocess_exec(
            *line, stdin=pipe, stdout=pipe, env=environment, process_group=0, limit=LONGEST_MESSAGE
        )
        return cls(started)

    def go(self) -> None:
        """Let it load the code."""
        self._orders.write(b"\n")

    async def next(self) -> Message | None:
        """Return the next message, or None if the process has ended."""
        if line := await self._messages.readline():
            return decode(line)
        await self._process.wait()
        return None

    def end(self) -> None:
        """Let it hand over and end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def ended(self, within: float) -> None:
        """Return once it has ended. After `within` seconds, it is killed."""
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Loop:
    """Serves a target until cancelled. Processes that end have `grace` seconds for it."""

    def __init__(self, target: Target, screen: Screen, grace: float) -> None:
        self._target = target
        self._screen = screen
        self._grace = grace
        # The folders of the modules that the code has imported from elsewhere, and the files at the last look.
        self._imported: set[Path] = set()
        self._seen: Stamps = {}
        self._serving: list[CodeProcess] = []
        # Processes that wait for the next version of the code, one for each role that it had last.
        self._spares: dict[Role, CodeProcess] = {}
        self._roles: tuple[Role, ...] = ("objects",)
        self._tasks: set[asyncio.Task[None]] = set()
        self._died = asyncio.Event()
        self._deaths = 0

    async def run(self) -> None:
        """Serve the code, and what it changes to, until cancelled."""
        changed = True
        try:
            while True:
                self._seen = self._look()
                async with asyncio.TaskGroup() as group:
                    replacing = group.create_task(self._replace(changed=changed))
                    changed = await self._wait_for_change()
                    replacing.cancel()
        finally:
            await self._end_all()

    async def _wait_for_change(self) -> bool:
        """Return True when a file has changed, or False some time after a process has ended by itself."""
        again_at = math.inf
        while self._look() == self._seen:
            if self._died.is_set():
                self._died.clear()
                self._deaths += 1
                again_at = time.monotonic() + RESTARTS.pause(self._deaths)
            if time.monotonic() > again_at:
                return False
            await asyncio.sleep(LOOK_EVERY)
        self._deaths = 0
        return True

    def _look(self) -> Stamps:
        return stamps(self._target.folders() | self._imported)

    async def _replace(self, *, changed: bool) -> None:
        """Load the code in new processes, and let them take over from the present ones."""
        began = time.monotonic()
        fresh: list[CodeProcess] = []
        try:
            loaded = await self._start(fresh)
            if loaded is not None:
                self._serving, fresh = fresh, self._serving
        finally:
            leaving = [self._leave(process) for process in fresh]
        if loaded is not None:
            await self._wait_for(leaving)
            self._screen.show_served(loaded, time.monotonic() - began, changed=changed)
        for role in self._roles:
            if role not in self._spares:
                self._spares[role] = await CodeProcess.start(role, self._target)

    async def _wait_for(self, leaving: list[asyncio.Task[None]]) -> None:
        """Return once the processes of the old code have ended: before, some objects may still run it."""
        if leaving and (await asyncio.wait(leaving, timeout=FINISHED_WITHIN))[1]:
            self._screen.show_finishing()
            await asyncio.wait(leaving)

    async def _start(self, fresh: list[CodeProcess]) -> Loaded | None:
        """Return the code once processes serve it, which are added to `fresh`, or None if it can't be served."""
        loaded = await self._load("objects", fresh)
        if loaded is None:
            return None
        if not loaded.types:
            self._leave(fresh.pop())
        self._roles = ("objects", "tasks") if loaded.tasks else ("objects",)
        if loaded.tasks and await self._load("tasks", fresh) is None:
            return None
        return loaded if await self._join(fresh) else None

    async def _load(self, role: Role, fresh: list[CodeProcess]) -> Loaded | None:
        """Load the code in a process, which is added to `fresh`. Return None if the code can't be served."""
        process = self._spares.pop(role, None) or await CodeProcess.start(role, self._target)
        fresh.append(process)
        process.go()
        message = await process.next()
        if isinstance(message, Loaded):
            self._note_files(message.files)
            return message
        self._refuse(message.problem if isinstance(message, Refused) else "the process that loads it has ended")
        return None

    async def _join(self, fresh: list[CodeProcess]) -> bool:
        """Return True once all of these processes serve, and follow what they say."""
        for process in fresh:
            if not isinstance(await process.next(), Joined):
                self._screen.show_refused(
                    "its process has ended before it joined the fleet", serving=bool(self._serving)
                )
                return False
        for process in fresh:
            self._keep(self._follow(process))
        return True

    def _refuse(self, problem: str) -> None:
        self._screen.show_refused(problem, serving=bool(self._serving))

    async def _follow(self, process: CodeProcess) -> None:
        while (message := await process.next()) is not None:
            if isinstance(message, Unfit):
                self._screen.show_unfit(message.problem)
        if process in self._serving:
            self._screen.show_death()
            self._died.set()

    def _note_files(self, files: Iterable[str]) -> None:
        """Look at the files of all imported modules from now on."""
        self._imported = {Path(file).parent for file in files}
        self._seen = self._look() | self._seen

    def _leave(self, process: CodeProcess) -> asyncio.Task[None]:
        process.end()
        return self._keep(process.ended(self._grace))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end_all(self) -> None:
        serving, self._serving = self._serving, []
        for process in [*serving, *self._spares.values()]:
            self._leave(process)
        await asyncio.gather(*self._tasks)


def stamps(folders: Iterable[Path]) -> Stamps:
    """Return what differs once a module in one of these folders was changed, added or removed."""
    found = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py") and not entry.name.startswith("test_"):
                    status = entry.stat()
                    found[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
