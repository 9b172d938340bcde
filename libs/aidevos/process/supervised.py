"""The services of the fleet that `make up` has started, as its supervisor stops and starts them.

Its interface is XML-RPC over a socket under the home (https://supervisord.org/api.html), which only the owner may use.
"""

from __future__ import annotations

import http.client
import socket
import time
import urllib.request
import xmlrpc.client
from pathlib import Path
from typing import Any, NamedTuple

SOCKET = "supervisor.sock"
SERVERS = ("nats", "mongo")
STOPPED = ("STOPPED", "EXITED", "FATAL")
POLL = 0.1


class SupervisorError(Exception):
    """Raised if the supervisor doesn't do what it is asked for. The message is one line."""


class Supervised(NamedTuple):
    """A program of the fleet. `state` is `running`, `starting`, `backoff`, `stopped`, …; `pid` is 0 if it has ended."""

    name: str
    state: str
    pid: int


def read_programs(home: Path) -> list[Supervised] | None:
    """Return the programs of the fleet under a home with its servers, or None if no supervisor answers."""
    try:
        rows = SupervisedServices(home).read()
    except SupervisorError:
        return None
    return [Supervised(row["group"], row["statename"].lower(), row["pid"]) for row in rows]


class SupervisedServices:
    """The services of the fleet under `home`, without its servers."""

    def __init__(self, home: Path) -> None:
        self._socket = home / SOCKET

    @property
    def exist(self) -> bool:
        """True if a supervisor runs the fleet. It doesn't in containers, for example."""
        return self._socket.exists()

    def stop(self, within: float) -> None:
        """Stop all services at once, and return when they have ended. Raises `SupervisorError`."""
        for name, state in self._states().items():
            if state not in STOPPED:
                self._call("stopProcess", name, False)
        end = time.monotonic() + within
        while running := [name for name, state in self._states().items() if state not in STOPPED]:
            if time.monotonic() > end:
                raise SupervisorError(f"{', '.join(running)} did not stop within {within:.0f} seconds")
            time.sleep(POLL)

    def start(self) -> None:
        """Start all services with what is in the home now, and return at once. Raises `SupervisorError`."""
        # It reads its own configuration anew, and the secrets that `fleet.json` shows.
        self._call("reloadConfig")
        for name, state in self._states().items():
            if state in STOPPED:
                self._call("startProcess", name, False)

    def read(self) -> list[dict[str, Any]]:
        """Return what the supervisor says of each program, also of the servers. Raises `SupervisorError`."""
        rows: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return rows

    def _states(self) -> dict[str, str]:
        return {f"{row['group']}:{row['name']}": row["statename"] for row in self.read() if row["group"] not in SERVERS}

    def _call(self, method: str, *arguments: Any) -> Any:
        connection = _UnixConnection(self._socket)
        try:
            body = xmlrpc.client.dumps(arguments, f"supervisor.{method}")
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            found, _ = xmlrpc.client.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"the supervisor doesn't answer: {error}") from None
        finally:
            connection.close()
        return found[0]


def wait_until_ready(url: str, within: float) -> bool:
    """Return True once the gateway at a URL is ready, or False if it isn't in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2):  # noqa: S310 the fleet's own URL
                return True
        except OSError:
            time.sleep(POLL)
    return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
