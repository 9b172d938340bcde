"""Servers in containers, on an engine that speaks Docker's API but runs nothing: so these tests need no Docker."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from testcontainers.core.config import testcontainers_config

from tests.support.servers import START_TIMEOUT, ContainerServer, docker_answers

NO_CONTENT = ("start", "stop", "kill", "pause", "unpause")


class Engine(ThreadingHTTPServer):
    """Keeps one container. As in Docker, a kill is done only once somebody has waited for its end."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.created: dict[str, Any] = {}
        self.status = "absent"
        self.stopped_within = 0

    def act(self, action: str, options: dict[str, list[str]]) -> None:
        running = self.status == "running"
        after = {"start": "running", "pause": "paused", "unpause": "running", "kill": "dying", "stop": "exited"}
        if action == "stop":
            self.stopped_within = int(options["t"][0])
        if action == "wait" and self.status == "dying":
            self.status = "exited"
        elif action in after and not (action == "pause" and not running):
            self.status = after[action]


class _Requests(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.endswith("/_ping"):
            self._answer(200, "OK")
        elif path.endswith("/version"):
            self._answer(200, {"ApiVersion": "1.45", "Version": "26.1.5"})
        elif "/images/" in path:
            self._answer(200, {"Id": "sha256:1"})
        else:
            self._answer(200, {"Id": "c1", "State": {"Status": self.server.status}})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = url.path.rpartition("/")[2]
        if action == "create":
            self.server.created, self.server.status = json.loads(body), "created"
            self._answer(201, {"Id": "c1"})
            return
        self.server.act(action, parse_qs(url.query))
        self._answer(*((204, None) if action in NO_CONTENT else (200, {"StatusCode": 137})))

    def do_DELETE(self) -> None:
        self.server.status = "absent"
        self._answer(204, None)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        body = b"" if content is None else text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    engine = Engine()
    serving = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.server_port}")
    # It would start a container that removes others once this process has ended.
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    yield engine
    engine.shutdown()
    serving.join()
    engine.server_close()


@pytest.fixture
def server(engine: Engine, tmp_path: Path) -> Iterator[ContainerServer]:
    server = ContainerServer(
        "nats:2", ["nats-server", "--config", "a b.conf"], tmp_path, lambda check: check(), {"HOME": str(tmp_path)}
    )
    server.start()
    yield server
    server.close()
    assert engine.status == "absent"


def test_the_program_runs_as_it_would_on_this_machine(server: ContainerServer, engine: Engine, tmp_path: Path) -> None:
    assert docker_answers()
    assert engine.status == "running"
    assert engine.created["Entrypoint"] == ["nats-server"]
    assert engine.created["Cmd"] == ["--config", "a b.conf"]
    assert engine.created["Env"] == [f"HOME={tmp_path}"]
    assert engine.created["User"] == f"{os.getuid()}:{os.getgid()}"
    assert engine.created["HostConfig"]["NetworkMode"] == "host"
    assert engine.created["HostConfig"]["Binds"] == [f"{tmp_path}:{tmp_path}:rw"]


def test_a_server_has_ended_once_kill_returns(server: ContainerServer, engine: Engine) -> None:
    server.kill()
    assert engine.status == "exited"
    server.start()
    assert engine.status == "running"


def test_a_paused_server_goes_on_and_shuts_down_within_the_time_of_a_start(
    server: ContainerServer, engine: Engine
) -> None:
    server.pause()
    assert engine.status == "paused"
    server.resume()
    assert engine.status == "running"
    server.pause()
    server.stop()
    assert engine.status == "exited"
    assert engine.stopped_within == START_TIMEOUT
