"""The HTTP API of a fleet. Every request of the client over HTTP goes through here.

Promise: a request takes effect at most once, however often it is sent. A change has an `Idempotency-Key`, the same for
each attempt, under which the fleet repeats its first answer.

Until the deadline, a request is repeated if

- there was no answer: the connection failed or was lost, or an attempt took longer than `ATTEMPT` seconds;
- the answer is retryable (`unavailable`, `overloaded`, `moved`, `rate-limited`, or a proxy's 502, 503 or 504), after
  the time that it asks for. It is raised at once if that is later than the deadline;
- the credential was refused (`unauthenticated`) and can be renewed, once.

A fleet that can't be connected to is given up after `CONNECT_WITHIN` seconds, and one whose certificate isn't trusted
at once. Nothing else is repeated. Redirects aren't followed.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx2
import msgspec

from aidevos.client.credentials import AGENT, TokenSource, authorization, find_token, renew
from aidevos.client.errors import ApiError, Unauthenticated, Unreachable, error_of
from aidevos.contracts import envelope
from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.durable.base.backoff import FOLLOWING, Backoff

DEADLINE = 30.0
# Seconds: for one attempt, for all attempts to connect, and for the way of an answer that says what was wrong.
ATTEMPT, CONNECT_WITHIN, ON_THE_WAY = 10.0, 5.0, 0.5
# Seconds without even a heartbeat (one comes every 15 seconds), after which a stream of events is opened again.
SILENT_FOR = 40.0
BACKOFF = Backoff(0.05, 2.0)
_UNANSWERED = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError)
_UNCONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout)
_GATEWAY_ERRORS = frozenset({502, 503, 504})


class ServerEvent(NamedTuple):
    """An event of a stream: its place in the stream, its type such as `item.created`, and its decoded data.

    An event of the type `gap` says that later events are no longer kept: read anew what you show.
    """

    id: str
    type: str
    data: Any


class HttpApi:
    """A fleet's HTTP API: `async with HttpApi("http://127.0.0.1:8080", token=token) as api`.

    `token` is an access token or an API key, or a function that returns one for each request. `deadline` is the number
    of seconds within which a request must be answered, repeats included. `tls` is the context for HTTPS, by default one
    with the system's authorities.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource | None = None,
        deadline: float = DEADLINE,
        tls: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a fleet, such as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self.token = token
        self.deadline = deadline
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            transport=transport,
            headers={"User-Agent": AGENT},
            # Authorities of certificates take time to load, and only HTTPS needs them.
            verify=tls or parts.scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        anonymous: bool = False,
    ) -> Any:
        """Send a request and return its answer: decoded JSON, a string for any other text, or None if it is empty.

        `body` is any value that msgspec can encode as JSON, or bytes that are sent as they are. Parameters that are
        None are left out. `deadline` is in seconds. An `anonymous` request has no credential. Raises `ApiError`, and
        its subclass `Unreachable` without an answer.
        """
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", envelope.JSON)
        if method not in ("GET", "HEAD"):
            sent.setdefault("Idempotency-Key", secrets.token_hex(16))
        content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        send = partial(self._http.request, method, path, content=content, params=_encode(params))
        return _decode(await self._repeat(send, sent, deadline or self.deadline, anonymous=anonymous))

    async def items(self, path: str, *, params: Mapping[str, Any] | None = None) -> AsyncIterator[Any]:
        """Yield the items of all pages of a list. `limit` among `params` is the size of a page."""
        async for page in self.pages(path, params=params):
            for item in page["items"]:
                yield item

    async def pages(self, path: str, *, params: Mapping[str, Any] | None = None) -> AsyncIterator[Any]:
        """Yield the pages of a list. `limit` among `params` is the size of a page."""
        wanted = dict(params or {})
        while True:
            page = await self.call("GET", path, params=wanted)
            yield page
            wanted["cursor"] = page.get("next_cursor")
            if wanted["cursor"] is None:
                return

    async def events(
        self,
        path: str = "/events",
        *,
        params: Mapping[str, Any] | None = None,
        last_event_id: str | None = None,
        places: bool = False,
    ) -> AsyncGenerator[ServerEvent, None]:
        """Yield the events of a stream as they happen: those after `last_event_id`, or by default those from now on.

        With `places`, also yield the places in the stream that come without an event, first its present end. Their data
        is None.

        After an interruption, the stream resumes where it was: no event is missed, and none comes twice. Raises
        `ApiError` if it is refused, or can't be resumed within the deadline of a request.
        """
        place, renewed, lost_at = last_event_id or "", False, 0.0
        pauses, loop = FOLLOWING.pauses(), asyncio.get_running_loop()
        while True:
            token = await find_token(self.token)
            try:
                async with aclosing(self._read_stream(path, params, place, token)) as events:
                    async for event in events:
                        place, renewed, lost_at = event.id or place, False, 0.0
                        if places or event.data is not None:
                            yield event._replace(id=place)
            except Unauthenticated:
                if renewed or not renew(self.token, token):
                    raise
                renewed = True
            except ApiError as error:
                lost_at = lost_at or loop.time()
                if loop.time() - lost_at > _patience(error, self.deadline):
                    raise
            await pauses.wait()

    async def _read_stream(
        self, path: str, params: Mapping[str, Any] | None, place: str, token: str
    ) -> AsyncGenerator[ServerEvent, None]:
        """Yield what one connection brings, until the stream ends. A place that comes alone has no data."""
        headers = authorization(token) | ({"Last-Event-ID": place} if place else {})
        timeout = httpx2.Timeout(ATTEMPT, read=SILENT_FOR)
        try:
            async with self._http.sse(path, params=_encode(params), headers=headers, timeout=timeout) as source:
                if not source.response.is_success:
                    await source.response.aread()
                    raise _problem(source.response)
                async for event in source:
                    data: Any = msgspec.json.decode(event.data) if event.data else None
                    if event.event == "end":
                        if data["reason"] == "unauthenticated":
                            renew(self.token, token)
                        return
                    yield ServerEvent(event.id, event.event, data)
        except _UNANSWERED as error:
            raise self._unreachable(error) from error
        except httpx2.SSEError as error:
            raise error_of(Failure("internal", f"{self.url}{path} is not a stream of events: {error}")) from None

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[httpx2.Response, None]:
        """Open an answer that is read as it comes. It is asked for once.

        Raises `ApiError` if it is refused, and in the block `Unreachable` if it breaks off. A credential that was
        refused is renewed for the next time.
        """
        token = await find_token(self.token)
        timeout = httpx2.Timeout(ATTEMPT, read=SILENT_FOR)
        sent = self._http.stream("GET", path, params=_encode(params), headers=authorization(token), timeout=timeout)
        try:
            async with sent as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _problem(answer)
                yield answer
        except Unauthenticated:
            renew(self.token, token)
            raise
        except _UNANSWERED as error:
            raise self._unreachable(error) from error

    async def _repeat(
        self,
        send: Callable[..., Awaitable[httpx2.Response]],
        headers: dict[str, str],
        deadline: float,
        *,
        anonymous: bool,
    ) -> httpx2.Response:
        """Send a request until it is answered for good."""
        loop = asyncio.get_running_loop()
        began, attempt, renewed = loop.time(), 0, False
        while True:
            attempt += 1
            token = "" if anonymous else await find_token(self.token)
            remaining = max(began + deadline - loop.time(), 0.001)
            sent = headers | authorization(token) | {envelope.DEADLINE: envelope.encode_deadline(remaining)}
            try:
                response = await send(headers=sent, timeout=min(remaining, ATTEMPT) + ON_THE_WAY)
                if response.is_success:
                    return response
                raise _problem(response)
            except _UNANSWERED as cause:
                error: ApiError = self._unreachable(cause)
                error.__cause__ = cause
            except ApiError as problem:
                error = problem
            if isinstance(error, Unauthenticated) and not renewed and renew(self.token, token):
                renewed = True
                continue
            pause = max(error.retry_after or 0.0, BACKOFF.pause(attempt))
            if loop.time() + pause > began + _patience(error, deadline):
                raise error
            await asyncio.sleep(pause)

    def _unreachable(self, cause: Exception) -> Unreachable:
        return Unreachable(f"{self.url} doesn't answer: {str(cause) or type(cause).__name__}")


def _patience(error: ApiError, deadline: float) -> float:
    """Return the seconds within which a request that has failed like this is repeated."""
    cause: BaseException | None = error.__cause__
    if not isinstance(cause, _UNCONNECTED):
        return deadline if error.retryable else 0.0
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return 0.0
        cause = cause.__cause__ or cause.__context__
    return min(deadline, CONNECT_WITHIN)


def _encode(params: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return query parameters as text: lists with commas between, maps as JSON, and none that is None.

    Without any, it is None, because httpx2 would remove those in the path.
    """
    encoded = {name: _encode_value(value) for name, value in (params or {}).items() if value is not None}
    return encoded or None


def _encode_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return msgspec.json.encode(value).decode()


def _decode(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    is_json = _media_type(response) == envelope.JSON or _media_type(response).endswith("+json")
    return msgspec.json.decode(response.content) if is_json else response.text


def _problem(response: httpx2.Response) -> ApiError:
    """Return the error that an answer reports. A proxy's answer has no problem document."""
    status, detail = response.status_code, f"{response.url} answered {response.status_code}, unlike a fleet"
    if _media_type(response) == MEDIA_TYPE:
        failure = Failure.decode(response.content)
    elif status in _GATEWAY_ERRORS:
        failure = Failure("unavailable", detail)
    elif 400 <= status <= 499:
        failure = Failure("unexpected-answer", detail, status=status)
    else:
        failure = Failure("internal", detail)
    return error_of(failure, response.headers.get(envelope.HTTP_REQUEST_ID, ""))


def _media_type(response: httpx2.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
