"""A gateway that answers as a test says, for commands that talk HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Request(NamedTuple):
    """A request as it came; `body` is decoded JSON, or None."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any


class Lines(NamedTuple):
    """An answer in NDJSON with more headers. If it is `cut`, the connection ends before its last byte."""

    lines: list[Any]
    headers: Mapping[str, str] = MappingProxyType({})
    cut: bool = False

    def encode(self) -> bytes:
        return b"".join(json.dumps(line).encode() + b"\n" for line in self.lines)


class FakeGateway:
    """Answers by method and path, and keeps the requests.

    `answers` holds a status with a JSON value, its bytes, `Lines` or None, or a function of the request that returns
    these. The body of a request in NDJSON is a list.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Any] = {}
        self.requests: list[Request] = []

    def answer(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        found = self.answers.get(f"{request.method} {request.path}", problem(404, "not-found", "there is nothing here"))
        return found(request) if callable(found) else found


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Return the answer of a failure."""
    return status, {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}


@contextmanager
def fake_gateway() -> Iterator[FakeGateway]:
    """Run a gateway on a free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if "ndjson" in headers.get("content-type", ""):
                body = [json.loads(line) for line in content.splitlines()]
            else:
                body = json.loads(content) if content else None
            request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
            status, value = gateway.answer(request)
            kind = "application/problem+json" if status >= 400 else "application/json"
            lines = value if isinstance(value, Lines) else Lines([])
            if isinstance(value, Lines):
                kind, encoded = "application/x-ndjson", value.encode()
            else:
                encoded = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, each in lines.headers.items():
                self.send_header(name, each)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded[:-1] if lines.cut else encoded)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = handle_one

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gateway = FakeGateway(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield gateway
        finally:
            server.shutdown()
