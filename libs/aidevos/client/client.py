"""The client of a fleet, over HTTP or NATS.

Both entry points do the same. They differ in what a program needs to use them: over HTTP a URL, and over NATS a user of
the NATS server as well. Their libraries are loaded when a URL asks for them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, overload
from urllib.parse import quote, urlsplit

from aidevos.client.auth import Auth
from aidevos.client.credentials import AGENT, TokenSource
from aidevos.client.data import Data
from aidevos.client.entry import EntryPoint, LiveEvent, Options
from aidevos.client.errors import Unreachable, error_of
from aidevos.client.projects import Projects, Tasks
from aidevos.client.users import Users
from aidevos.contracts.errors import Failure
from aidevos.durable.client.reference import refer

T = TypeVar("T")
# Seconds.
DEADLINE, CONNECT_WITHIN = 30.0, 5.0
Values = str | list[str] | None


class Client:
    """A fleet. `connect` opens it. All methods raise `ApiError`, whose subclasses say what went wrong."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry
        self.auth = Auth(entry)
        self.data = Data(entry)
        self.projects = Projects(entry)
        self.tasks = Tasks(entry)
        self.users = Users(entry)

    @overload
    def object(
        self,
        target: type[T],
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> T: ...
    @overload
    def object(
        self,
        target: str,
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> Any: ...
    def object(
        self,
        target: str | type[Any],
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> Any:
        """Return a reference to an object: `await client.object(Counter, "clicks").increment(by=2)`. Nothing is sent.

        `target` is the object's class, whose methods take the arguments that it declares, or a type by name, whose
        methods take arguments by name. `id` may be any name, as for `id_from_name`. Each call of the reference has the
        `deadline`, in seconds. A call with a `request_id` that was used before gets the first outcome. With `if_match`,
        a command on another version of the object is refused with `PreconditionFailed`.
        """
        options = Options(deadline, request_id, if_match)
        try:
            return refer(target, id, partial(self._entry.send, options))
        except Failure as failure:
            raise error_of(failure) from None

    def events(
        self,
        *,
        type: Values = None,
        collection: Values = None,
        id: Values = None,
        name: Values = None,
        after: str | None = None,
    ) -> AsyncGenerator[LiveEvent, None]:
        """Yield events as they happen, from now on, or those that came after the `position` of an event.

        The filters are types of objects, collections, IDs of objects or items, and names such as `created`. After an
        interruption the stream resumes where it was. Over HTTP, these are the events that the caller may see. Over
        NATS, they are all events, and the user needs `aidevos nats-user … --events`.
        """
        given = {"type": type, "collection": collection, "id": id, "name": name}
        wanted = {key: [value] if isinstance(value, str) else value for key, value in given.items() if value}
        return self._entry.events(wanted, after)


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | TokenSource | None = None,
    user: str | None = None,
    password: str | None = None,
    deadline: float = DEADLINE,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Open the client of the fleet at a URL: `http://` or `https://` for its gateway, `nats://` or `tls://` for NATS.

    `token` is an access token or an API key, or an async function that returns one for each request. Without it,
    `client.auth.login` gets one. `user` and `password` are those of the NATS server. `deadline` is the number of
    seconds within which each request must be answered, repeats included. `tls` is the context for TLS, by default one
    with the system's authorities. Raises `Unreachable` if NATS can't be connected to, and `ValueError` for other URLs.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("http", "https"):
        if user is not None or password is not None:
            raise ValueError("user and password are for NATS: log in with client.auth.login(username, password)")
        entry = _open_http(url, token, deadline, tls)
    elif scheme in ("nats", "tls"):
        entry = await _open_nats(url, user, password, token, deadline, tls)
    else:
        raise ValueError(f"{url!r} is not the URL of a fleet, such as http://127.0.0.1:8080 or nats://127.0.0.1:4222")
    try:
        yield Client(entry)
    finally:
        await entry.close()


def _open_http(url: str, token: str | TokenSource | None, deadline: float, tls: ssl.SSLContext | None) -> EntryPoint:
    from aidevos.client.api import HttpApi
    from aidevos.client.over_http import OverHttp

    return OverHttp(HttpApi(url, token=token, deadline=deadline, tls=tls))


async def _open_nats(
    url: str,
    user: str | None,
    password: str | None,
    token: str | TokenSource | None,
    deadline: float,
    tls: ssl.SSLContext | None,
) -> EntryPoint:
    from aidevos.client.over_nats import OverNats
    from aidevos.durable.client import connection
    from aidevos.settings import SettingsError, split_urls

    servers = ",".join(_with_user(each, user, password) for each in split_urls(url))
    try:
        opened = await connection.connect(servers, AGENT, tls=tls, within=min(CONNECT_WITHIN, deadline))
    except SettingsError as error:
        raise Unreachable(str(error).removeprefix("AIDEVOS_NATS_URL: ")) from None
    entry = OverNats(opened, token, deadline)
    await entry.start()
    return entry


def _with_user(url: str, user: str | None, password: str | None) -> str:
    """Return the URL with the user of NATS in it."""
    if user is None:
        return url
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    secret = "" if password is None else f":{quote(password, safe='')}"
    return parts._replace(netloc=f"{quote(user, safe='')}{secret}@{place}").geturl()
