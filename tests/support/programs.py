"""Runs the product's programs as processes, forked from a process that has already imported them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.support.network import enter_namespace
from tests.support.orphans import end_with_parent
from tests.support.paths import ROOT
from tests.support.weak_passwords import weaken_passwords
from tests.support.wrong_clock import follow_file

# Every module of the services except `__main__`, and the modules that processes import later.
IMPORTED = [
    "tests.support.forks",
    "deploy.local.preloaded",
    "aidevos.durable.bus.rabbitmq.bus",
    *(f"services.{file.parent.name}.{file.stem}" for file in ROOT.glob("services/*/*.py") if "__" not in file.stem),
    "httpcore2",
    "segno",
    "truststore",
    "tests.support.host_process",
    "tests.support.fault_objects",
    "tests.support.preloaded",
]

# The variable that names the file of the network namespace in which a program runs.
NAMESPACE = "TEST_NAMESPACE"
# The variable that names the file with the number of seconds by which a program's wall clock is wrong.
CLOCK = "TEST_CLOCK"
# The variable that lets a program hash passwords as its settings say.
STRONG_PASSWORDS = "TEST_STRONG_PASSWORDS"
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(IMPORTED)


class Process(Protocol):
    """The part of `subprocess.Popen` that tests use."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


# Starts `python -m <line>` with these variables.
Launch = Callable[[Sequence[str], Mapping[str, str]], Process]


class Program:
    """A process that runs `python -m <line>` with these variables; used like `subprocess.Popen`."""

    def __init__(self, line: Sequence[str], environment: Mapping[str, str], output: str = "") -> None:
        """Start the program; its output goes to the file `output`, by default to the tests' own output."""
        self._line = line
        self._process = _forks.Process(target=_run, args=(line, dict(environment), output), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(list(self._line), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def spawn(line: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Run `python -m <line>` in a fresh process, with nothing imported, as the fleet does."""
    return subprocess.Popen([sys.executable, "-m", *line], cwd=ROOT, env=dict(environment))


def _run(line: Sequence[str], environment: Mapping[str, str], output: str) -> None:
    end_with_parent()
    if NAMESPACE in environment:
        enter_namespace(environment[NAMESPACE])
    if CLOCK in environment:
        follow_file(environment[CLOCK])
    if STRONG_PASSWORDS not in environment:
        weaken_passwords()
    if output:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = line
    runpy.run_module(line[0], run_name="__main__", alter_sys=True)
