"""uvicorn's HTTP protocol with bounds on what a client sends and takes, and problem documents for malformed requests.

Promise: no client holds a connection, or memory, by sending or reading slowly.

- A request's head has at most `HEAD_LIMIT` bytes and arrives in time, also on a connection that has sent nothing yet.
- A body keeps up a minimum rate while the gateway wants to read it. Its framing is bounded like a head.
- A client that takes nothing of a response for the idle time is cut off. So is an idle connection.
- At most `MAX_PIPELINED` requests wait for their turn on a connection.

A server that drains loses no request. The response to each request that still arrives says `Connection: close`. A
connection is closed without that only once it has been quiet for the `linger` time, and never with a request unread.

Nothing after the head counts as a header: trailers are dropped. A malformed request is refused only once the requests
before it are answered, so that no client takes the refusal for another request's response.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.observability import metrics, request_ids

from .connection import CONNECTION, End
from .cycle import Cycle
from .joined_writes import JoinedWrites
from .responses import POLICY, PRIVATE, SECURITY

HEAD_LIMIT = 64 * 1024
MAX_PIPELINED = 100
MALFORMED = (400, "this isn't a valid HTTP/1.1 request")
TOO_LARGE = (431, f"the head of a request can have at most {HEAD_LIMIT} bytes")
_SECURITY = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in (*SECURITY, POLICY, PRIVATE))
# A host and a port (RFC 9110 §7.2), or nothing.
_is_host = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII).fullmatch
_is_target = re.compile(rb"/|https?://", re.IGNORECASE).match


class ConnectionLimits(NamedTuple):
    """The bounds of a connection: seconds for a head, idle seconds, and bytes per second of a body.

    The rate is measured over each `window` seconds. A connection is quiet for `linger` seconds before a server that
    drains closes it.
    """

    head: float = 20.0
    idle: float = 60.0
    rate: int = 500
    window: float = 10.0
    linger: float = 2.0


class _Refused(Exception):
    """Stops the parser; the protocol knows the problem."""


class ProblemProtocol(HttpToolsProtocol):
    # The part of a request that is arriving, and the bytes since its beginning or, of a body, since its last byte.
    _part: Literal["", "head", "body"] = ""
    _unparsed = 0
    _problem = MALFORMED
    _refused = False
    # The deadline of the part; of a body, it ends a window.
    _timer: asyncio.TimerHandle | None = None
    _received = 0
    _excused = False
    _unwanted = False
    _write_timer: asyncio.TimerHandle | None = None
    _unsent = 0
    _ended: Callable[[End], None] | None = None
    _draining = False
    # When the last response ended.
    _idle_since = 0.0

    def __init__(self, *args: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits

    # What the application calls

    def watch(self, ended: Callable[[End], None] | None) -> None:
        self._ended = ended
        if self._draining or self.transport.is_closing():
            self._tell_end("draining" if self._draining else "gone")

    def cut(self) -> None:
        self.transport.abort()

    @property
    def is_quiet(self) -> bool:
        return not self._part

    # What the server and the transport call

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unparsed += len(data)
        self._received += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_LIMIT:
            self._refuse(*(MALFORMED if self._part == "body" else TOO_LARGE))
        if self._timer is None and not self._refused:
            if self._part == "body":
                self._unwanted = False
                self._watch_body()
            elif self._part or self._unparsed:
                self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writes()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        self._end_write_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        self._tell_end("gone")

    def shutdown(self) -> None:
        self._draining = True
        if not self._is_awaited():
            self._linger()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False
        self._tell_end("draining")

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._watch_idleness(self._limits.idle)
        if self._draining:
            self._linger()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle for too long. One timer lasts for many requests."""
        is_used = self._part or self._unparsed or self._is_awaited()
        since = self.loop.time() if is_used else self._idle_since
        left = since + self._limits.idle - self.loop.time()
        if left > 0:
            self._watch_idleness(left)
        elif not self.transport.is_closing():
            self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        pass

    # What the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = "head"

    def on_headers_complete(self) -> None:
        self._end_timer()
        self._check_head()
        existing, self.cycle = self.cycle, self._new_cycle()
        # Trailers end here; nobody reads them.
        self.headers = []
        if existing is None or existing.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._part, self._unparsed = "body", 0

    def _new_cycle(self) -> Cycle:
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        parser, url = self.parser, httptools.parse_url(self.url)
        version, path = parser.get_http_version(), url.path.decode("ascii")
        scope["method"], scope["http_version"] = parser.get_method().decode("ascii"), version
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, url.path
        scope["query_string"], scope[CONNECTION] = url.query or b"", self
        # After an upgrade, the parser takes what follows for another protocol, which the gateway doesn't speak.
        closes = self._draining or version == "1.0" or not parser.should_keep_alive() or parser.should_upgrade()
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not closes,
            on_response=self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._unparsed = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._end_timer()
        self._part, self._unparsed = "", 0

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._problem)

    def _check_head(self) -> None:
        if len(self.url) + sum([len(name) + len(value) + len(": \r\n") for name, value in self.headers]) > HEAD_LIMIT:
            self._stop(*TOO_LARGE)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            self._stop(400, "a request has exactly one Host header")
        if hosts and not _is_host(hosts[0]):
            self._stop(400, "the Host header isn't a host with or without a port")
        if not _is_target(self.url):
            self._stop(400, "the target of a request is a path, or a URL with a path")
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(400, f"at most {MAX_PIPELINED} requests can wait on one connection")

    def _stop(self, status: int, detail: str) -> NoReturn:
        """Refuse the request that is being parsed."""
        self._problem = status, detail
        raise _Refused

    # A server that drains

    def _is_awaited(self) -> bool:
        """True if the client waits for a response."""
        return self.cycle is not None and not self.cycle.response_complete

    def _linger(self) -> None:
        """Close the connection after a while, in which the client may send a request, or go on sending one."""
        self.loop.call_later(self._limits.linger, self._close_if_quiet)

    def _close_if_quiet(self) -> None:
        if self.transport.is_closing() or self._is_awaited():
            return
        if self._part or self._unparsed:
            self._linger()
        elif _has_input(self.transport):
            # To close now would reset the connection, and lose the request.
            self.loop.call_soon(self._close_if_quiet)
        else:
            self.transport.close()

    # Deadlines

    def _watch_head(self) -> None:
        self._timer = self.loop.call_later(self._limits.head, self._end_head)

    def _end_head(self) -> None:
        if self._part or self._unparsed:
            self._refuse(408, "the request's head took too long to arrive")
        else:
            self.transport.close()

    def _watch_body(self) -> None:
        self._received = 0
        self._excused = self._holds_back()
        self._timer = self.loop.call_later(self._limits.window, self._check_body)

    def _check_body(self) -> None:
        """Cut a client off whose body arrived too slowly in a window, or goes on for a window after the response."""
        if self._unwanted:
            self.transport.close()
        elif self._received < self._limits.rate * self._limits.window and not (self._excused or self._holds_back()):
            self._refuse(408, "the body arrives too slowly")
        else:
            self._unwanted = self.cycle.response_complete
            self._watch_body()

    def _holds_back(self) -> bool:
        """True if the client has to wait until the application reads."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _watch_idleness(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _watch_writes(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._limits.idle, self._check_writes)

    def _check_writes(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch_writes()
        else:
            self.transport.abort()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _tell_end(self, end: End) -> None:
        if self._ended is not None:
            self._ended(end)

    def _refuse(self, status: int, detail: str) -> None:
        """Close the connection for this problem, which the client sees if it is the next response that it expects."""
        self._end_timer()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        metrics.FAILURES.labels("http", "bad-request").inc()
        cycle = self.cycle
        if cycle is not None and cycle.response_complete and self._part == "body":
            self.transport.close()
        elif cycle is None or cycle.response_complete:
            self._send_problem(status, detail)
        elif not cycle.more_body:
            cycle.keep_alive = False
        elif cycle.response_started or self.pipeline:
            self.transport.abort()
        else:
            self._send_problem(status, detail)

    def _send_problem(self, status: int, detail: str) -> None:
        document = Failure("bad-request", detail, status=status).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\n"
            f"{_SECURITY}"
            f"x-request-id: {request_ids.choose(None)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        # To close while the client still sends would reset the connection, and the client might lose the response.
        self.transport.write_eof()
        self._timer = self.loop.call_later(self._limits.window, self.transport.close)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _has_input(transport: asyncio.Transport) -> bool:
    """True if the client has sent something, or has closed, and the event loop hasn't seen it yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
