"""The supervisor's side of the fork server: it forks the programs of services, if that is possible.

Promise: a service that can't be forked starts all the same, in an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from supervisor.options import FastCGIProcessConfig, ProcessConfig
from supervisor.process import FastCGISubprocess, Subprocess

from aidevos.settings import PREFIX

from . import processes
from .fork_server import LIMIT, Order

GROUP = "fork_server"
# Bytes in which a forked process shows its arguments and its variables, instead of the server's.
ARGUMENTS_ROOM, VARIABLES_ROOM = 64, 16 * 1024
# Seconds in which a server loads the code and forks a process.
WITHIN = 30.0
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Let this process become the parent of orphans below it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class ForkServer:
    """The fork server of a fleet, which loads `modules`."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._channel: socket.socket | None = None

    def start(self) -> socket.socket:
        """Start the server unless it runs. Returns at once, while the server loads the code."""
        if self._channel is None:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._channel.settimeout(WITHIN)
            command = [sys.executable, "-P", "-m", f"{__package__}.fork_server", *self._modules, " " * ARGUMENTS_ROOM]
            with theirs:
                actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
                os.posix_spawn(command[0], command, _environment(), file_actions=actions, setpgroup=0)
        return self._channel

    def fork(self, order: Order, descriptors: Sequence[int]) -> int:
        """Return the PID of a new child of this process that carries out the order, or 0 if none could be forked."""
        message = msgspec.json.encode(order)
        if len(message) > min(LIMIT, VARIABLES_ROOM):
            return 0
        # A server whose code is outdated ends when it gets an order.
        for _ in range(2):
            with contextlib.suppress(OSError):
                channel = self.start()
                socket.send_fds(channel, [message], descriptors)
                if answer := channel.recv(LIMIT):
                    return int(answer)
            self.close()
        return 0

    def close(self) -> None:
        """End the server."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _environment() -> dict[str, str]:
    """Return the variables of the server: none that may hold a password, and room for those of other processes."""
    kept = (processes.MARK, f"{PREFIX}HOME")
    own = {name: value for name, value in os.environ.items() if name in kept or not name.startswith(PREFIX)}
    # The C library would give each thread a heap of its own, and never return the end of that to the system.
    return {
        **own,
        processes.GROUP: GROUP,
        "MALLOC_ARENA_MAX": "1",
        "PYTHONUNBUFFERED": "1",
        "_ROOM": " " * VARIABLES_ROOM,
    }


class _Forked:
    """A program of the supervisor that is forked if possible."""

    def spawn(self: Any) -> int | None:
        self.config.options.spawning = self
        return super().spawn()  # type: ignore[misc, no-any-return]

    def order(self: Any) -> tuple[Order, list[int]]:
        """Return the order that starts the program, and its standard input, output and error output."""
        variables = {
            **os.environ,
            **self.config.environment,
            "SUPERVISOR_ENABLED": "1",
            "SUPERVISOR_PROCESS_NAME": self.config.name,
            processes.GROUP: self.group.config.name,
        }
        _, [*command] = self.get_execv_args()
        line = command[command.index("-m") + 1 :]
        listener = getattr(self, "fcgi_sock", None)
        stdin = self.pipes["child_stdin"] if listener is None else listener.fileno()
        return Order(line, variables, self.config.directory), [stdin, *[self.pipes["child_stdout"]] * 2]


class ForkedProcess(_Forked, Subprocess):  # type: ignore[misc]
    pass


class ForkedListener(_Forked, FastCGISubprocess):  # type: ignore[misc]
    pass


class ForkedProcessConfig(ProcessConfig):  # type: ignore[misc]
    def make_process(self, group: Any = None) -> ForkedProcess:
        process = ForkedProcess(self)
        process.group = group
        return process


class ForkedListenerConfig(FastCGIProcessConfig):  # type: ignore[misc]
    def make_process(self, group: Any = None) -> ForkedListener:
        process = ForkedListener(self)
        process.group = group
        return process


# The configuration that makes a program forked, by its ordinary one.
CONFIGS: Mapping[type, type] = {ProcessConfig: ForkedProcessConfig, FastCGIProcessConfig: ForkedListenerConfig}
