"""The command `aidevos` in this process, on the services that tests share."""

from __future__ import annotations

from pathlib import Path

import httpx2
import msgspec
import pytest

from aidevos.cli.main import main
from aidevos.process.fleet import Fleet
from tests.support.world import World

Output = pytest.CaptureFixture[str]


def make_home(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home with the fleet's keys and its `fleet.json`, and let commands use it, without any context."""
    (folder / "keys").symlink_to(world.servers.home / "keys")
    texts = {name: "x" for name in Fleet.__struct_fields__ if name != "processes"}
    url = httpx2.URL(world.servers.nats_url("client"))
    known = {"nats_url": f"nats://{url.host}:{url.port}", "nats_username": url.username, "nats_password": url.password}
    urls = {"gateway_url": world.url, "public_url": world.servers.public_url}
    (folder / "fleet.json").write_bytes(msgspec.json.encode({**texts, **known, **urls, "processes": []}))
    monkeypatch.setenv("AIDEVOS_HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    return folder


def run(capsys: Output, *arguments: str, expected: int = 0) -> str:
    """Run a command in a thread, beside the test's event loop, and return its output."""
    capsys.readouterr()
    assert main(arguments) == expected, capsys.readouterr().err
    return capsys.readouterr().out.strip()
