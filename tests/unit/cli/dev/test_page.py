"""The page of a project, while its code is served."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aidevos.cli.dev.page import find_page, is_refused, serving_page
from aidevos.cli.errors import CommandError
from tests.support.servers import free_port

PAGE = "http://127.0.0.1:8000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<h1>shop</h1>")
    (tmp_path / "web" / "fleet.js").write_text("elsewhere")
    (tmp_path / "secret").write_text("secret")
    return tmp_path


@contextmanager
def gateway(status: int, allowed: str) -> Iterator[str]:
    """Run a gateway that lets pages of one origin call."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", allowed)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return str(answer.read().decode())


def test_a_page_is_served_with_the_url_of_the_fleet_and_nothing_beside_it(folder: Path) -> None:
    page = find_page(folder)
    assert page is not None
    with serving_page(page, free_port(), "http://127.0.0.1:8080") as url:
        assert read(f"{url}/") == "<h1>shop</h1>"
        assert read(f"{url}/fleet.js") == 'export const url = "http://127.0.0.1:8080";\n'
        with pytest.raises(urllib.error.HTTPError, match="404"):
            read(f"{url}/..%2fsecret")


def test_a_folder_without_a_page_has_none(tmp_path: Path) -> None:
    assert find_page(tmp_path) is None


def test_a_port_that_is_taken_is_refused_in_a_line_that_says_what_to_set(folder: Path) -> None:
    with gateway(200, "*") as url, pytest.raises(CommandError, match="set --page-port"):
        serving_page(folder / "web", int(url.rpartition(":")[2]), url).__enter__()


@pytest.mark.parametrize(
    ("status", "allowed", "refused"), [(200, PAGE, False), (503, PAGE, False), (200, "*", False), (200, "null", True)]
)
def test_a_gateway_that_refuses_the_page_is_told_from_one_that_is_not_ready(
    status: int, allowed: str, refused: bool
) -> None:
    with gateway(status, allowed) as url:
        assert is_refused(PAGE, url) is refused
    assert not is_refused(PAGE, url)
