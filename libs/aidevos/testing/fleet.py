"""A real fleet for end-to-end tests: NATS, MongoDB, the gateway and every service, each as a process of its own.

Promise: a fleet has a home and ports of its own, so it disturbs no other one, and nothing of it is left afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from aidevos.durable.client.reference import type_of
from aidevos.process.fleet import Fleet, load_fleet

PORTS = ("AIDEVOS_PORT", "AIDEVOS_NATS_PORT", "AIDEVOS_MONGO_PORT")
# Seconds for a command of the fleet, for a process to serve its types, and between two looks at it.
COMMAND_WITHIN, SERVED_WITHIN, POLL = 180.0, 30.0, 0.1
# The age in seconds at which `token` logs in again; an access token is good for 10 minutes.
TOKEN_AGE = 300.0


class FleetError(Exception):
    """Raised when the fleet, or a process that serves types, doesn't start. The message says why."""


class RunningFleet:
    """A fleet that is up. `url` is its gateway, and `details` hold its other addresses and its administrator."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.home = home
        self._environment = {**_without_settings(), **settings, "AIDEVOS_HOME": str(home)}
        self._serving: list[subprocess.Popen[bytes]] = []
        self._token, self._logged_in = "", -TOKEN_AGE

    @property
    def details(self) -> Fleet:
        return load_fleet(self.home)

    @property
    def url(self) -> str:
        return self.details.gateway_url

    @property
    def token(self) -> str:
        """An access token of the administrator, which is good for some minutes more."""
        if time.monotonic() - self._logged_in > TOKEN_AGE:
            fleet = self.details
            body = {"username": fleet.admin_username, "password": fleet.admin_password}
            self._token, self._logged_in = _request(f"{self.url}/auth/login", body)["access_token"], time.monotonic()
        return self._token

    def serve(self, *types: type[Any]) -> None:
        """Host object types of the test's own until the fleet ends, and return once they are served.

        Raises `FleetError` if they can't be served. Each class must be one that its module can be asked for.
        """
        log = self.home / f"serve-{len(self._serving)}.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "aidevos.cli.main", "serve"]
            command += [f"{cls.__module__}:{cls.__qualname__}" for cls in types]
            environment = self._environment | {"PYTHONPATH": os.pathsep.join(filter(None, ["", *sys.path]))}
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603
        self._serving.append(process)
        for cls in types:
            self._wait_until_served(type_of(cls), process, log)

    def _wait_until_served(self, type: str, process: subprocess.Popen[bytes], log: Path) -> None:
        end = time.monotonic() + SERVED_WITHIN
        while True:
            try:
                _request(f"{self.url}/durable-objects?type={type}&limit=1", token=self.token)
                return
            except urllib.error.HTTPError as refused:
                refused.close()
                if process.poll() is not None or time.monotonic() > end:
                    raise FleetError(f"{type} isn't served: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(POLL)

    def run(self, command: str) -> None:
        """Run `aidevos up` or `aidevos down` for this fleet. Raises `FleetError`."""
        line = [sys.executable, "-m", "aidevos.cli.main", command]
        ran = subprocess.run(  # noqa: S603
            line, env=self._environment, capture_output=True, text=True, timeout=COMMAND_WITHIN, check=False
        )
        if ran.returncode:
            raise FleetError(f"`aidevos {command}` failed: {ran.stderr.strip() or ran.stdout.strip()}")

    def stop(self) -> None:
        """End every process of the fleet, those of `serve` first."""
        for process in self._serving:
            process.terminate()
        for process in self._serving:
            process.wait()
        self.run("down")


@contextmanager
def run_fleet(**settings: str) -> Iterator[RunningFleet]:
    """Run a fleet with these settings: `with run_fleet(AIDEVOS_REGISTRATION="false") as fleet`.

    It needs what `aidevos up` needs: the servers on the PATH, or the extra `embedded`. Raises `FleetError`.
    """
    home = Path(tempfile.mkdtemp(prefix="aidevos-"))
    try:
        fleet = RunningFleet(home, _free_ports() | settings)
        try:
            fleet.run("up")
            yield fleet
        finally:
            fleet.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIDEVOS_")}


def _free_ports() -> dict[str, str]:
    """Return distinct ports that are free now, by setting."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in PORTS]
        return {name: str(each.getsockname()[1]) for name, each in zip(PORTS, sockets, strict=True)}


def _request(url: str, body: Any = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    payload = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, payload, headers), timeout=10) as answer:  # noqa: S310
        return json.load(answer)
