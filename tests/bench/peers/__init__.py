"""Other products that do some of the same work, as processes beside the fleet.

`make bench-peers` installs them. A peer that isn't installed is left out of the report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from tests.support.servers import free_port

HERE = Path(__file__).parent
HOME = Path(sys.prefix) / "bench-peers"
PROGRAMS = HOME / "venv" / "bin"
WORKERD = HOME / "node_modules" / ".bin" / "workerd"
RESTATE = HOME / "node_modules" / "@restatedev" / "restate-server-linux-x64" / "bin" / "restate-server"
POCKETBASE = PROGRAMS / "pocketbase"
WITHIN = 30.0
SUPERUSER = ("bench@example.org", "wheelbarrow at noon")
FIELDS = {"name": "text", "price": "number", "tags": "json", "size": "json"}


class Peer(NamedTuple):
    """A peer that `program` installs; `run` yields its URL."""

    name: str
    program: Path
    run: Callable[[], AbstractContextManager[str]]

    @property
    def is_installed(self) -> bool:
        return self.program.exists()


@contextmanager
def workerd() -> Iterator[str]:
    """Serve counters on workerd: `/<id>` with GET and POST."""
    address = f"127.0.0.1:{free_port()}"
    with _folder() as folder:
        command = [WORKERD, "serve", HERE / "workerd.capnp", f"--socket-addr=http={address}"]
        with _running([*command, f"--directory-path=disk={folder}"], f"http://{address}/ready"):
            yield f"http://{address}"


@contextmanager
def restate() -> Iterator[str]:
    """Serve counters on Restate: `/Counter/<id>/increment` and `/Counter/<id>/value`."""
    ingress, admin, node, service = (f"127.0.0.1:{free_port()}" for _ in range(4))
    settings = {
        "RESTATE_INGRESS__BIND_ADDRESS": ingress,
        "RESTATE_ADMIN__BIND_ADDRESS": admin,
        "RESTATE_BIND_ADDRESS": node,
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        command = [PROGRAMS / "hypercorn", "--keep-alive", "3600", "--bind", service, "restate_counter:app"]
        stack.enter_context(_running(command, f"http://{service}/health"))
        stack.enter_context(_running([RESTATE, "--base-dir", folder], f"http://{admin}/health", settings))
        deployment = httpx2.post(f"http://{admin}/deployments", json={"uri": f"http://{service}"}, timeout=WITHIN)
        deployment.raise_for_status()
        _wait(f"http://{ingress}/Counter/ready/value", None)
        yield f"http://{ingress}"


@contextmanager
def pocketbase() -> Iterator[str]:
    """Serve the collection `items` on PocketBase, with an index by price, to everyone."""
    address = f"127.0.0.1:{free_port()}"
    with _folder() as folder:
        # It writes what it has changed to a folder beside this one.
        data = f"--dir={folder}/data"
        subprocess.run([POCKETBASE, "superuser", "upsert", *SUPERUSER, data], check=True, stdout=subprocess.DEVNULL)
        with _running([POCKETBASE, "serve", f"--http={address}", data], f"http://{address}/api/health"):
            _make_items(f"http://{address}/api/collections")
            yield f"http://{address}"


def _make_items(collections: str) -> None:
    login = {"identity": SUPERUSER[0], "password": SUPERUSER[1]}
    reply = httpx2.post(f"{collections}/_superusers/auth-with-password", json=login).raise_for_status()
    everyone = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule"), "")
    items: dict[str, Any] = {
        "name": "items",
        "type": "base",
        "fields": [{"name": name, "type": kind} for name, kind in FIELDS.items()],
        "indexes": ["CREATE INDEX items_price ON items (price)"],
    }
    head = {"Authorization": reply.json()["token"]}
    httpx2.post(collections, json=items | everyone, headers=head).raise_for_status()


PEERS = (
    Peer("workerd", WORKERD, workerd),
    Peer("Restate", RESTATE, restate),
    Peer("PocketBase", POCKETBASE, pocketbase),
)


@contextmanager
def _folder() -> Iterator[str]:
    """Make a folder on the disk of the checkout, because what a sync costs is part of what is compared."""
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        yield folder


@contextmanager
def _running(command: Sequence[object], url: str, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=HERE,
        env=os.environ | (settings or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(url, process)
        yield
    finally:
        process.terminate()
        process.wait(WITHIN)


def _wait(url: str, process: subprocess.Popen[bytes] | None) -> None:
    """Return once the URL gives any answer that is no failure of the server."""
    end = time.monotonic() + WITHIN
    while time.monotonic() < end and (process is None or process.poll() is None):
        try:
            if httpx2.get(url).status_code < 500:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {url}")
