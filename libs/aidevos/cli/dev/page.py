"""The page of a project, served from its folder while its code is served.

Only this machine reaches it. Nothing is cached, so a reload shows each change. The gateway has to allow the page's
origin.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aidevos.cli.errors import CommandError

HOST = "127.0.0.1"
# The folder of the page in a project, and the module in it that says where the fleet is.
FOLDER, FLEET = "web", "/fleet.js"
ASKED_FOR = 5.0


def find_page(folder: Path) -> Path | None:
    """Return the folder of the page of the project in a folder, if it has one."""
    page = folder / FOLDER
    return page if (page / "index.html").is_file() else None


def origins(port: int) -> str:
    """Return the origins of a page at this port, as `AIDEVOS_CORS_ORIGINS` has them."""
    return f"http://{HOST}:{port},http://localhost:{port}"


@contextmanager
def serving_page(folder: Path, port: int, gateway_url: str) -> Iterator[str]:
    """Serve the page, and yield its URL. Raises `CommandError` if the port is taken."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            if self.path != FLEET:
                super().do_GET()
                return
            body = f"export const url = {json.dumps(gateway_url)};\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise CommandError(f"the page can't be served at port {port}: {error.strerror}; set --page-port") from None
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{port}"
        finally:
            server.shutdown()


def is_refused(page_url: str, gateway_url: str) -> bool:
    """True if a gateway answers, and doesn't let a page call it."""
    request = urllib.request.Request(gateway_url, headers={"Origin": page_url})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=ASKED_FOR)  # noqa: S310 the fleet's own URL
    except urllib.error.HTTPError as error:
        answer = error
    except OSError:
        return False
    with answer:
        return answer.headers.get("Access-Control-Allow-Origin") not in ("*", page_url)
