"""The program that forks the fleet's services: a process that has loaded their code.

A forked service starts in a fraction of the time, and shares the memory of the code with all others.

Promise: a forked process runs the code that is on the disk. The server ends, instead of forking, once a file that it
has loaded has changed. It knows no secret, and has no thread and no connection, so no process finds anything of another
one in its memory. Whatever a process must have for itself, such as the random prefix of its IDs, is made anew in it.

Python counts references in the objects themselves, so a process copies each page that it works with. The server
therefore derives the object types before it forks, and leaves no room between its objects for those of the processes.

A forked process is orphaned at once, so the supervisor, which adopts all orphans below it, becomes its parent. It has
the environment, arguments, directory, group and descriptors of a program that the supervisor starts itself.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import runpy
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import msgspec

# Bytes of a message, which holds an order.
LIMIT = 128 * 1024
# The descriptor of the connection to the supervisor.
CHANNEL = 0
# A size class of Python's allocator, and its free blocks, in the statistics.
_CLASS = re.compile(rb"^ +\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)


class Order(msgspec.Struct):
    """Run `python -m <line>` with these variables in this directory."""

    line: list[str]
    environment: dict[str, str]
    directory: str


class LoadedCode:
    """The files of the modules that this process has loaded."""

    def __init__(self, modules: Iterable[str]) -> None:
        started = time.time_ns()
        for name in modules:
            # Whoever runs a module that can't be loaded reports it.
            try:
                _derive_types(import_module(name))
            except Exception:
                print(f"{name} can't be loaded", file=sys.stderr)
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self._files = {file: _stamp(file) for file in files if file}
        self._overtaken = any(changed >= started for changed, *_ in self._files.values())

    def has_changed(self) -> bool:
        """True if a process that starts now might load other code."""
        return self._overtaken or any(_stamp(file) != stamp for file, stamp in self._files.items())


def _derive_types(module: ModuleType) -> None:
    """Derive the object types of a module's service, if it has one. They are kept with their classes."""
    service = getattr(module, "service", None)
    if classes := getattr(service, "types", ()):
        # Imported here, because it loads what a service loads.
        from aidevos.durable.objects.registry import DurableObjectRegistry

        DurableObjectRegistry(classes)


def _stamp(file: str) -> tuple[int, int, int]:
    """Return what differs once the file was changed or replaced; zeros if it is missing."""
    try:
        status = os.stat(file)
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino


def serve(channel: socket.socket, code: LoadedCode) -> Order | None:
    """Fork a process for each order. Return in each of these with its order, and in the server with None at the end."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, LIMIT, 3)
        if not data or code.has_changed():
            return None
        child = os.fork()
        if child == 0:
            if os.fork() != 0:
                os._exit(0)
            order = msgspec.json.decode(data, type=Order)
            _become(order, channel, descriptors)
            return order
        os.waitpid(child, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(order: Order, channel: socket.socket, descriptors: Sequence[int]) -> None:
    """Turn this process into the one of the order, and tell its PID to the supervisor."""
    os.setpgrp()
    os.chdir(order.directory)
    interpreter = Path("/proc/self/cmdline").read_bytes().split(b"\0-m\0")[0]
    _show(b"\0".join([interpreter, b"-m", *map(os.fsencode, order.line)]), order.environment)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = list(order.line)
    # Without a supervisor that waits for the answer, this ends the process.
    channel.send(str(os.getpid()).encode())
    channel.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _show(arguments: bytes, environment: dict[str, str]) -> None:
    """Let the kernel show these arguments and variables for this process. There must be room for them."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    # arg_start, arg_end, env_start and env_end, in proc(5).
    start, end, first, last = map(int, fields[45:49])
    variables = b"\0".join(os.fsencode(f"{name}={value}") for name, value in environment.items())
    for where, room, content in ((start, end - start, arguments), (first, last - first, variables)):
        ctypes.memset(where, 0, room)
        ctypes.memmove(where, content, min(len(content), room - 1))


def _fill_free_blocks() -> Iterator[bytes]:
    """Yield objects that take the free blocks between others. They take no memory that wasn't taken before."""
    free = _CLASS.findall(_read_statistics())
    empty = sys.getsizeof(b"")
    for size, blocks in ((int(size), int(blocks)) for size, blocks in free):
        if size > empty:
            yield from (bytes(size - empty) for _ in range(blocks))


def _read_statistics() -> bytes:
    """Return the statistics of Python's allocator, which it writes to the standard error output."""
    own = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(own, 2)
            os.close(own)
        file.seek(0)
        return file.read()


def main(modules: Sequence[str]) -> None:
    # Collections between the imports would leave holes in the memory that the processes share.
    gc.disable()
    code = LoadedCode(modules)
    gc.collect()
    gc.freeze()
    # It refers to thousands of names, which processes would release one by one.
    sys._clear_type_cache()
    filling = [*_fill_free_blocks()]
    order = serve(socket.socket(fileno=CHANNEL), code)
    if order is not None:
        gc.enable()
        runpy.run_module(order.line[0], run_name="__main__", alter_sys=True)
    del filling


if __name__ == "__main__":
    # Whatever else the supervisor has open is none of a service's business.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # The last argument only makes room for those of forked processes.
    main(sys.argv[1:-1])
