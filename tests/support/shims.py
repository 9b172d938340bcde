"""An environment whose `python` and `aidevos` start in milliseconds, for shells and tests that run many commands.

Both are small scripts. They hand their arguments, variables, folder and open files to a server that has imported the
product's and pytest's code, which forks a process that goes on as Python does. They pass on signals, and end as that
process ends. What only an interpreter of its own can do, such as `python -c`, they leave to Python itself.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from tests.support.orphans import end_with_parent
from tests.support.paths import ROOT, temporary_folder
from tests.support.programs import Program

# Modules that the server can run.
RUNNABLE = ("aidevos.cli.main", "aidevos.cli.dev.process", "deploy.local", "pytest")
# What these import when they start, or later.
IMPORTED = [
    *RUNNABLE,
    *(
        f"aidevos.cli.{file.stem}"
        for file in (ROOT / "libs/aidevos/cli").glob("*.py")
        if file.stem not in ("main", "mcp")
    ),
    "aidevos.backup.saving",
    "aidevos.backup.whole_fleet",
    "aidevos.cli.doctor.checks",
    "aidevos.client",
    "aidevos.pytest_plugin",
    "aidevos.testing",
    "aidevos.testing.simulated_objects",
    "aidevos.testing.tasks",
    "anyio._backends._asyncio",
    "deploy.local.launcher",
    "deploy.local.preloaded",
    "httpcore2",
    "hypothesis.strategies",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "rich.console",
    "rich.table",
    "truststore",
    "typer._adapters",
    "unittest",
    "xdist.looponfail",
]
SCRIPT = """\
#!{base} -IS
import _signal, _socket, marshal, posix, sys

arguments = sys.argv[1:]
line = arguments[1:] if arguments[:1] == ["-P"] else arguments
if {name!r} == "python" and not (line[:1] == ["-m"] and line[1] in {runnable} or line and line[0].endswith(".py")):
    posix.execv({python!r}, [{python!r}, *arguments])
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
    if _signal.getsignal(number) != _signal.SIG_IGN:
        _signal.signal(number, lambda number, frame: server.send(bytes([number])))
order = marshal.dumps(({name!r}, arguments, posix.getcwd(), posix.environ))
files = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
server.sendmsg([len(order).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
server.sendall(order)
status, number = server.recv(2) or (1, _signal.SIGKILL)
if number:
    _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
posix._exit(status)
"""


@cache
def environment() -> Path:
    """Return the folder of an environment like this one, and run its server until this process ends."""
    folder = temporary_folder("shims")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "bin":
            (folder / entry.name).symlink_to(entry)
    (folder / "bin").mkdir()
    for entry in Path(sys.prefix, "bin").iterdir():
        if entry.name not in ("aidevos", "python"):
            (folder / "bin" / entry.name).symlink_to(entry)
    address = folder / "server.sock"
    base = os.path.realpath(sys.executable)
    for name in ("aidevos", "python"):
        known = {"base": base, "name": name, "runnable": RUNNABLE, "python": sys.executable, "address": str(address)}
        (folder / "bin" / name).write_text(SCRIPT.format(**known))
        (folder / "bin" / name).chmod(0o755)
    server = Program([__name__, str(address)], os.environ)
    while not address.exists():
        assert server.poll() is None, "the server of the shims has ended"
        time.sleep(0.01)
    return folder


def python() -> str:
    """Return the path of the environment's `python`."""
    return str(environment() / "bin" / "python")


class Server:
    def __init__(self, address: str) -> None:
        self._python = str(Path(address).with_name("bin") / "python")
        self._selector = selectors.DefaultSelector()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{address}.new")
        listener.listen(64)
        os.rename(f"{address}.new", address)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._begin(listener))

    def run(self) -> NoReturn:
        while True:
            for key, _ in self._selector.select():
                # One that was removed by the one before it has nothing to do any more.
                if key.fileobj in self._selector.get_map():
                    key.data()

    def _begin(self, listener: socket.socket) -> None:
        shim, _ = listener.accept()
        size, descriptors, _, _ = socket.recv_fds(shim, 4, 3)
        order = shim.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL) if size else b""
        if not order:
            shim.close()
            return
        child = os.fork()
        if child == 0:
            # Everything that the server has open stays in this frame and its callers, and so is closed only once.
            _become(self._python, descriptors, *marshal.loads(order))
        for descriptor in descriptors:
            os.close(descriptor)
        watch = os.pidfd_open(child)
        self._selector.register(shim, selectors.EVENT_READ, lambda: self._forward(shim, child))
        self._selector.register(watch, selectors.EVENT_READ, lambda: self._end(shim, child, watch))

    def _forward(self, shim: socket.socket, child: int) -> None:
        """Send the child the signals that its shim got, or kill it if that has been killed."""
        numbers = shim.recv(16)
        for number in numbers or (signal.SIGKILL,):
            os.kill(child, number)
        if not numbers:
            self._selector.unregister(shim)

    def _end(self, shim: socket.socket, child: int, watch: int) -> None:
        """Tell the shim how its child has ended."""
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self._selector.unregister(watch)
        os.close(watch)
        if shim in self._selector.get_map():
            self._selector.unregister(shim)
            shim.send(bytes([max(status, 0), max(-status, 0)]))
        shim.close()


def _become(
    python: str, descriptors: list[int], name: str, arguments: list[str], folder: str, variables: dict[bytes, bytes]
) -> NoReturn:
    """Go on in this process as the program of a shim."""
    end_with_parent()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    os.environb.clear()
    os.environb.update(variables)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.executable = python
    status = 1
    try:
        _run(name, arguments)
        status = 0
    except SystemExit as end:
        status = _status_of(end)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def _status_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _run(name: str, arguments: list[str]) -> None:
    sys.path[:] = [path for path in sys.path if path]
    if name == "aidevos":
        arguments = ["-P", "-m", "aidevos.cli.main", *arguments]
    safe = arguments[0] == "-P"
    flag, *rest = arguments[safe:]
    if flag == "-m":
        sys.argv = rest
        sys.path[:0] = [] if safe else [os.getcwd()]
        sys.modules.pop(rest[0], None)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [flag, *rest]
        sys.path.insert(0, str(Path(flag).resolve().parent))
        runpy.run_path(flag, run_name="__main__")


def _import_all() -> None:
    """Import what the programs import, now or later."""
    # Hypothesis warns about trio's random numbers, which nothing here uses.
    with warnings.catch_warnings(action="ignore"):
        for name in IMPORTED:
            import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _import_all()
    Server(sys.argv[1]).run()
