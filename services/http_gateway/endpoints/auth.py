"""`/auth`: registration, logins and sessions, and the keys that access tokens are signed with."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import subjects, users
from aidevos.contracts.authentication import (
    ACCOUNT_TYPE,
    SESSION_TYPE,
    CookieSession,
    LoginBody,
    MfaVerifyBody,
    PasswordBody,
    RefreshBody,
    SessionPage,
    TokenPair,
    Whoami,
    account_id,
    account_of,
    session_of,
)
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import RegisterBody, User
from aidevos.security.keys import read_public_keys
from aidevos.settings import Settings

from ..forwarder import Forwarder, new_object_id
from ..http import bodies, parameters
from ..http.cookies import Cookies
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, NO_STORE, HttpResponse
from ..http.versions import versioned
from .api_router import APIRouter
from .operation import Access, Target, delete, get, in_path, post
from .parameters import flag, variable

DEVICE_LIMIT = 256
# The longest that others may keep the key set, in seconds.
KEYS_MAX_AGE = 60
REGISTER, SESSIONS = "/auth/register", "/auth/sessions"
COOKIE = flag("cookie", "True if the tokens are to come as cookies")
ALL = flag("all", "True if every session of the user is to end")
LOGIN: dict[str, Any] = {"answer": (TokenPair, CookieSession), "access": Access.OPEN, "failures": (401,)}
VERIFY = "Complete a login by its second factor"
RENEW = "Exchange a refresh token for a new pair"
CHALLENGE = "Takes the challenge of `POST /auth/login`, from the same client."
REFRESH = "Takes the token in the body, or the cookie of a login with `?cookie=true`."
SHOW_KEYS = "Show the public keys of access tokens (RFC 7517)"
_refresh = msgspec.json.Decoder(RefreshBody)


def session_of_caller(request: HttpRequest, body: Any = None) -> str:
    """The ID of the caller's session; raises `forbidden` for a token without one."""
    if not request.principal.session:
        raise Failure("forbidden", "this needs the token of a login")
    return request.principal.session


OWN = Target(SESSION_TYPE, session_of_caller)
SESSION = Target(SESSION_TYPE, in_path("session_id", "session"))


class AuthRouter(APIRouter):
    tag = "accounts"
    about = "Registration, logins and sessions"
    needs = "Needs the token of a login."
    headers = ("Idempotency-Key", "Deadline")
    body_limit = 16 * 1024
    variables = (variable("session_id", "As in the list of sessions"),)
    rows = (
        post("/auth/password", "change_password", "Change the password", (OWN, "change_password"), body=PasswordBody),
        get("/auth/me", "me", "Show the caller and its session", (OWN, "me"), Whoami, secret=True),
        get(SESSIONS, "list_sessions", "List the caller's sessions", (OWN, "sessions"), SessionPage),
        delete(f"{SESSIONS}/{{session_id}}", "end_session", "End a session of the caller", (SESSION, "end")),
    )

    def __init__(self, forwarder: Forwarder, settings: Settings, cookies: Cookies) -> None:
        super().__init__(forwarder, settings)
        self._cookies = cookies
        self._home = settings.home
        # A new key signs only once nobody has an older key set any more.
        max_age = int(min(KEYS_MAX_AGE, settings.key_notice / 2))
        self._keys_headers = (JSON_HEADER, (b"cache-control", f"public, max-age={max_age}".encode()))

    @post(REGISTER, "register", "Register a user", None, User, RegisterBody, access=Access.OPEN, location="/users/{id}")
    async def register(self, request: HttpRequest, body: RegisterBody) -> HttpResponse:
        options = self._forwarder.anonymous_options(request)
        id = new_object_id(request, users.TYPE, body.username, body.email)
        reply = await self._request(users.TYPE, id, "register", request.content, options)
        return versioned(reply, 201, (b"location", f"/users/{id}".encode()))

    @post("/auth/login", "login", "Open a session", body=LoginBody, query=(COOKIE,), **LOGIN)
    async def login(self, request: HttpRequest, body: LoginBody) -> HttpResponse:
        return await self._open(request, account_id(body.username), "login", body)

    @post("/auth/mfa/verify", "verify_mfa", VERIFY, body=MfaVerifyBody, query=(COOKIE,), about=CHALLENGE, **LOGIN)
    async def verify(self, request: HttpRequest, body: MfaVerifyBody) -> HttpResponse:
        return await self._open(request, account_of(body.challenge), "verify", body)

    @post("/auth/refresh", "refresh", RENEW, body=RefreshBody, raw=True, optional=True, about=REFRESH, **LOGIN)
    async def refresh(self, request: HttpRequest) -> HttpResponse:
        token = self._cookies.of(request.headers).get(self._cookies.refresh)
        payload = await request.body(self.body_limit)
        if token and payload:
            raise Failure(
                "bad-request", "send the refresh token in the body or in its cookie, not both", field="Cookie"
            )
        if token:
            payload = msgspec.json.encode(RefreshBody(refresh_token=token))
        session = session_of(bodies.decode(_refresh, payload, "body").refresh_token)
        if token:
            self._cookies.check(request.headers, session)
        options = self._forwarder.anonymous_options(request)
        reply = await self._request(SESSION_TYPE, session, "refresh", payload, options)
        return self._tokens(reply, bool(token))

    @post("/auth/logout", "logout", "End this session", query=(ALL,))
    async def logout(self, request: HttpRequest) -> HttpResponse:
        method = "end_all" if parameters.flag(request.parameters, "all") else "end"
        options = self._forwarder.options(request)
        await self._request(SESSION_TYPE, session_of_caller(request), method, b"{}", options)
        return HttpResponse(204, headers=self._cookies.end() if b"cookie" in request.headers else ())

    @get("/.well-known/jwks.json", "keys", SHOW_KEYS, answer=dict[str, Any], access=Access.PUBLIC)
    async def keys(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, read_public_keys(self._home), self._keys_headers)

    async def _open(self, request: HttpRequest, account: str, method: str, body: msgspec.Struct) -> HttpResponse:
        with_cookies = self._wants_cookies(request)
        device = (request.header(b"user-agent") or "")[:DEVICE_LIMIT]
        payload = msgspec.json.encode({**msgspec.structs.asdict(body), "device": device})
        options = self._forwarder.anonymous_options(request)
        return self._tokens(await self._request(ACCOUNT_TYPE, account, method, payload, options), with_cookies)

    def _wants_cookies(self, request: HttpRequest) -> bool:
        wanted = parameters.flag(request.parameters, "cookie")
        if wanted:
            self._cookies.check_possible()
            self._cookies.check_origin(request.headers)
        return wanted

    def _tokens(self, reply: bytes, with_cookies: bool) -> HttpResponse:
        """The response to a login: the pair of tokens, or cookies that hold it."""
        if not with_cookies:
            return HttpResponse(200, reply, NO_STORE)
        body, headers = self._cookies.begin(reply)
        return HttpResponse(200, body, (*NO_STORE, *headers))

    async def _request(self, type: str, id: str, method: str, payload: bytes, options: dict[str, Any]) -> bytes:
        return await self._forwarder.arguments(subjects.call(type, id, method), payload, options)
