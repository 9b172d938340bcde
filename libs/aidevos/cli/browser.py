"""A login on a page of the fleet, which sends its tokens to this process over the loopback interface (RFC 8252 §7.3).

Promise: only tokens with the state of this login are taken, so no other page or program can log the user in as
somebody else. The tokens are in the body of a request, never in a URL.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

import msgspec

from aidevos.cli.errors import UNAUTHORISED, CommandError

# Seconds in which the user must have logged in, and for one request.
LOGGED_IN_WITHIN, REQUEST_WITHIN = 300.0, 10.0
LONGEST_BODY = 64 * 1024
ANSWER = b"<!doctype html><title>Logged in</title><p>You are logged in. You can close this window."


def log_in_by_browser(url: str) -> Any:
    """Open the page on which the user logs in, and return the tokens of the login. Raises `CommandError`."""
    with Reception() as reception:
        page = f"{url}/auth/cli#{urlencode({'port': reception.server_port, 'state': reception.state})}"
        print(f"Log in at {page}", file=sys.stderr)
        webbrowser.open(page)
        end = time.monotonic() + LOGGED_IN_WITHIN
        while reception.tokens is None:
            reception.timeout = end - time.monotonic()
            if reception.timeout <= 0:
                raise CommandError("nobody has logged in within five minutes", UNAUTHORISED)
            reception.handle_request()
        return reception.tokens


class Reception(HTTPServer):
    """A server on a free port of this machine, which takes the tokens of one login."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = secrets.token_urlsafe(32)
        self.tokens: Any = None

    def take(self, body: bytes) -> bool:
        """Keep the tokens in the form that the page has sent. Return False if it isn't of this login."""
        form = parse_qs(body.decode(errors="replace"))
        state, tokens = (form.get(name, [""])[0] for name in ("state", "tokens"))
        if not hmac.compare_digest(state.encode(), self.state.encode()):
            return False
        try:
            self.tokens = msgspec.json.decode(tokens, type=dict[str, Any])
        except msgspec.DecodeError:
            return False
        return True


class _Handler(BaseHTTPRequestHandler):
    server: Reception
    timeout = REQUEST_WITHIN

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() else 0
        taken = size <= LONGEST_BODY and self.server.take(self.rfile.read(size))
        self.send_response(200 if taken else 400)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if taken:
            self.wfile.write(ANSWER)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""
