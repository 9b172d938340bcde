"""`/auth`: registration, logins and sessions. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects, users
from aidevos.contracts.authentication import (
    ACCOUNT_TYPE,
    SESSION_TYPE,
    LoginBody,
    MfaVerifyBody,
    PasswordBody,
    RefreshBody,
    account_id,
    account_of,
    session_of,
)
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import RegisterBody
from aidevos.security.keys import read_public_keys
from aidevos.settings import Settings

from .. import bodies
from ..answers import JSON_HEADER, NO_STORE, Answer
from ..calls import Calls
from ..cookies import Cookies
from ..resource import Guard, Incoming, OpenDoor, Resource
from ..versions import versioned
from .account_requests import BODY_LIMIT, read, session_of_caller

DEVICE_LIMIT = 256
# The longest that others may keep the key set, in seconds.
KEYS_MAX_AGE = 60

_register = msgspec.json.Decoder(RegisterBody)
_login = msgspec.json.Decoder(LoginBody)
_password = msgspec.json.Decoder(PasswordBody)
_refresh = msgspec.json.Decoder(RefreshBody)
_verify = msgspec.json.Decoder(MfaVerifyBody)


class AuthRouter:
    """`/auth` and `/.well-known/jwks.json`."""

    def __init__(self, calls: Calls, settings: Settings, cookies: Cookies) -> None:
        self._calls = calls
        self._cookies = cookies
        self._home = settings.home
        # A new key signs when nobody has an older key set any more.
        max_age = int(min(KEYS_MAX_AGE, settings.key_notice / 2))
        self._keys_headers = (JSON_HEADER, (b"cache-control", f"public, max-age={max_age}".encode()))

    def routes(self, known: Guard, open: OpenDoor) -> list[Route]:
        return [
            Route("/auth/register", Resource(open, post=self.register)),
            Route("/auth/login", Resource(open, parameters=("cookie",), post=self.login)),
            Route("/auth/mfa/verify", Resource(open, parameters=("cookie",), post=self.verify)),
            Route("/auth/refresh", Resource(open, post=self.refresh)),
            Route("/auth/logout", Resource(known, parameters=("all",), post=self.logout)),
            Route("/auth/password", Resource(known, post=self.password)),
            Route("/auth/me", Resource(known, get=self.me)),
            Route("/auth/sessions/{session_id}", Resource(known, delete=self.end)),
            Route("/auth/sessions", Resource(known, get=self.sessions)),
            Route("/.well-known/jwks.json", Resource(get=self.keys)),
        ]

    async def register(self, incoming: Incoming) -> Answer:
        body, payload = await read(incoming, _register)
        options = self._open_options(incoming)
        id = self._calls.new_id(incoming, users.TYPE, body.username, body.email)
        reply = await self._request(users.TYPE, id, "register", payload, options)
        return versioned(reply, 201, (b"location", f"/users/{id}".encode()))

    async def login(self, incoming: Incoming) -> Answer:
        with_cookies = self._wants_cookies(incoming)
        body, _ = await read(incoming, _login)
        return await self._open(incoming, account_id(body.username), "login", body, with_cookies)

    async def verify(self, incoming: Incoming) -> Answer:
        with_cookies = self._wants_cookies(incoming)
        body, _ = await read(incoming, _verify)
        return await self._open(incoming, account_of(body.challenge), "verify", body, with_cookies)

    async def refresh(self, incoming: Incoming) -> Answer:
        token = self._cookies.of(incoming.headers).get(self._cookies.refresh)
        payload = await incoming.body(BODY_LIMIT)
        if token and payload:
            raise Failure(
                "bad-request", "send the refresh token in the body or in its cookie, not both", field="Cookie"
            )
        if token:
            payload = msgspec.json.encode(RefreshBody(refresh_token=token))
        session = session_of(bodies.decode(_refresh, payload, "body").refresh_token)
        if token:
            self._cookies.check(incoming.headers, session)
        reply = await self._request(SESSION_TYPE, session, "refresh", payload, self._open_options(incoming))
        return self._tokens(reply, bool(token))

    async def logout(self, incoming: Incoming) -> Answer:
        method = "end_all" if _flag(incoming, "all") else "end"
        await self._own(incoming, method)
        return Answer(204, headers=self._cookies.end() if b"cookie" in incoming.headers else ())

    async def password(self, incoming: Incoming) -> Answer:
        _, payload = await read(incoming, _password)
        await self._own(incoming, "change_password", payload)
        return Answer(204, headers=())

    async def me(self, incoming: Incoming) -> Answer:
        reply = await self._own(incoming, "me")
        return Answer(200, reply, NO_STORE)

    async def sessions(self, incoming: Incoming) -> Answer:
        reply = await self._own(incoming, "sessions")
        return Answer(200, reply)

    async def end(self, incoming: Incoming) -> Answer:
        session = incoming.path["session_id"]
        if not subjects.is_id(session):
            raise Failure("not-found", "there is no such session")
        await self._request(SESSION_TYPE, session, "end", b"{}", self._calls.options(incoming))
        return Answer(204, headers=())

    async def keys(self, incoming: Incoming) -> Answer:
        return Answer(200, read_public_keys(self._home), self._keys_headers)

    def _wants_cookies(self, incoming: Incoming) -> bool:
        wanted = _flag(incoming, "cookie")
        if wanted:
            self._cookies.check_possible()
            self._cookies.check_origin(incoming.headers)
        return wanted

    async def _open(
        self, incoming: Incoming, account: str, method: str, body: msgspec.Struct, with_cookies: bool
    ) -> Answer:
        device = (incoming.header(b"user-agent") or "")[:DEVICE_LIMIT]
        payload = msgspec.json.encode({**msgspec.structs.asdict(body), "device": device})
        reply = await self._request(ACCOUNT_TYPE, account, method, payload, self._open_options(incoming))
        return self._tokens(reply, with_cookies)

    def _tokens(self, reply: bytes, with_cookies: bool) -> Answer:
        """The answer to a login: the pair, or cookies that hold it."""
        if not with_cookies:
            return Answer(200, reply, NO_STORE)
        body, headers = self._cookies.begin(reply)
        return Answer(200, body, (*NO_STORE, *headers))

    async def _own(self, incoming: Incoming, method: str, payload: bytes = b"{}") -> bytes:
        """A call of the caller's session."""
        options = self._calls.options(incoming)
        return await self._request(SESSION_TYPE, session_of_caller(incoming), method, payload, options)

    async def _request(self, type: str, id: str, method: str, payload: bytes, options: dict[str, Any]) -> bytes:
        return await self._calls.arguments(subjects.call(type, id, method), payload, options)

    def _open_options(self, incoming: Incoming) -> dict[str, Any]:
        """Of a request that needs no credential, and whose own is not looked at."""
        return self._calls.options(incoming) | {"authorization": ""}


def _flag(incoming: Incoming, name: str) -> bool:
    value = incoming.parameters.get(name, "false")
    if value not in ("true", "false"):
        raise Failure("invalid", "it is true or false", field=name)
    return value == "true"
