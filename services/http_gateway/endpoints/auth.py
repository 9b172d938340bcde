"""`/auth`: registration, logins, sessions, second factors, mail links, token keys and the security log.

A link in a mail leads to a page that does nothing until its button is pressed, so programs that follow
links don't use them up. The token is in the URL's fragment and so never appears in a request line, a
log or a Referer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import access_tokens, audit, authentication, confirmation, subjects, users
from aidevos.contracts.authentication import SESSION_TYPE, ProofBody, RecoveryCodes, RefreshBody, Whoami
from aidevos.contracts.confirmation import CONFIRM_PATH, CONFIRMATION_TYPE, RECOVERY_TYPE, RESET_PATH
from aidevos.contracts.errors import Failure
from aidevos.security.keys import read_public_keys
from aidevos.settings import Settings

from ..forwarder import Forwarder, new_object_id
from ..http import bodies, parameters
from ..http.charges import Charges
from ..http.cookies import Cookies
from ..http.parameters import PAGE, moment, switch, text, variable
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, NO_STORE, HttpResponse, problem_response
from ..pages import load_page
from .api_router import APIRouter
from .operation import Access, Target, Text, delete, get, in_path, post

DEVICE_LIMIT = 256
# Where commands on the browser's own machine wait for their tokens.
COMMANDS = "http://127.0.0.1:*"
# The longest time for which others may cache the key set, in seconds.
KEYS_MAX_AGE = 60
SEARCH = subjects.query(audit.TYPE, audit.SEARCH)
TOTP = "/auth/mfa/totp"
COOKIE = switch("cookie", "Set to `true` to receive the tokens as cookies")
ALL = switch("all", "Set to `true` to end every session of the user")
ENTRIES = (
    text("actor", "Only actions of this user ID or `service:<name>`", "^.{0,160}$"),
    text("target", "Only actions on this ID", "^.{0,160}$"),
    text("action", "Only this action; `mfa.*` stands for all that begin with `mfa.`", r"^[a-z0-9_.]{1,64}\*?$"),
    text("outcome", "Only entries with this outcome", "^(success|failure)$"),
    moment("from", "The earliest time, inclusive"),
    moment("to", "The latest time, exclusive"),
    text("sort", "The order by time; with a minus (the default), the newest come first", "^-?at$"),
)
OTP = ("Otp", "Idempotency-Key", "Deadline")
OPEN: dict[str, Any] = {"access": Access.OPEN}
TOKENS: dict[str, Any] = OPEN | {
    "response": (authentication.TokenPair, authentication.CookieSession),
    "failures": (401,),
}
LOGIN: dict[str, Any] = TOKENS | {"query": (COOKIE,)}
KEYS: dict[str, Any] = {"response": dict[str, Any], "access": Access.PUBLIC}
FORM: dict[str, Any] = OPEN | {"response": Text("text/html"), "headers": ()}
MAILED: dict[str, Any] = {"status": 202, "returns": "If there is anything to send, a mail is on its way"}
ALIKE = "The response is the same whether or not the address belongs to a user."
NOTICE = "The address changes when the link is used. A notice is mailed to the current address at once."
KEPT = "API keys and webhooks are listed. They remain valid unless the body has `revoke_keys`."
ENDED = 'API keys and webhooks are listed. They end, unless the body says `{"revoke_keys": false}`.'
VERIFY = "Complete a login with its second factor"
RENEW = "Exchange a refresh token for a new pair"
DISABLE = "Remove the second factor"
CHALLENGE = "Takes the challenge from `POST /auth/login`, which must come from the same client."
ANY = "Requires an access token from a login, or an API key."
REFRESH = "Takes the token from the body, or from the cookie of a login with `?cookie=true`."
_refresh = msgspec.json.Decoder(RefreshBody)
_proof = msgspec.json.Decoder(ProofBody)
_user_shown = msgspec.json.Decoder(users.User)


def _without_profile(user: users.User) -> users.User:
    return msgspec.structs.replace(user, email=None, full_name="", settings={})


def _session(request: HttpRequest, body: Any = None) -> str:
    if not request.principal.session:
        raise Failure("forbidden", "this requires an access token from a login")
    return request.principal.session


def _user(request: HttpRequest, body: Any) -> str:
    if not subjects.is_id(request.principal.subject):
        raise Failure("forbidden", "this requires a user's access token")
    return request.principal.subject


def _holder(request: HttpRequest, body: Any) -> str:
    try:
        return confirmation.user_of(body.token)
    except Failure as failure:
        failure.field = "token"
        raise


def _new(request: HttpRequest, body: users.RegisterBody) -> str:
    return new_object_id(request, users.TYPE, body.username, body.email)


NEW = Target(users.TYPE, _new)
OWN = Target(SESSION_TYPE, _session)
SESSION = Target(SESSION_TYPE, in_path("session_id", "session"))
USER = Target(CONFIRMATION_TYPE, _user)
HOLDER = Target(CONFIRMATION_TYPE, _holder)
RECOVERY = Target(RECOVERY_TYPE, lambda request, body: confirmation.recovery_id(body.email))


class AuthRouter(APIRouter):
    """`/auth` and `/.well-known/jwks.json`."""

    tag = "accounts"
    about = "Registration, logins and sessions"
    needs = "Requires an access token from a login."
    headers = ("Idempotency-Key", "Deadline")
    body_limit = 16 * 1024
    variables = (variable("session_id", "A session's ID"),)
    # fmt: off
    rows = (
        get("/auth/sessions", "list_sessions", "List the caller's sessions", (OWN, "sessions"),
            authentication.SessionPage),
        delete("/auth/sessions/{session_id}", "end_session", "End a session of the caller", (SESSION, "end")),
        post("/auth/register", "register", "Register a user", (NEW, "register"), users.User, users.RegisterBody,
             location="/users/{id}", **OPEN),
        post("/auth/password", "change_password", "Change the password, which ends every other session",
             (OWN, "change_password"), authentication.PasswordChanged, authentication.PasswordBody, about=KEPT),
        post(TOTP, "begin_totp", "Create a secret for an authenticator app, to be confirmed with a code",
             (OWN, "begin_totp"), authentication.TotpSecret, ProofBody, secret=True),
        post(f"{TOTP}/confirm", "confirm_totp", "Require a second factor at logins from now on",
             (OWN, "confirm_totp"), RecoveryCodes, authentication.OtpBody, secret=True),
        post("/auth/mfa/recovery-codes", "renew_recovery_codes", "Replace all recovery codes",
             (OWN, "renew_recovery_codes"), RecoveryCodes, ProofBody, secret=True),
        post("/auth/password/reset", "forgot_password", "Mail a link that resets the password",
             (RECOVERY, "request_reset"), body=confirmation.ForgottenBody, about=ALIKE, **OPEN, **MAILED),
        post(RESET_PATH, "reset_password", "Set a new password with a mailed link, which ends every session",
             (HOLDER, "reset_password"), authentication.PasswordChanged, confirmation.ResetBody, about=ENDED, **OPEN),
        post("/auth/email", "change_email", "Mail a link to a new address, which becomes the caller's",
             (USER, "change_email"), body=confirmation.EmailBody, about=NOTICE, **MAILED),
        post("/auth/email/verify", "verify_email", "Mail a link that confirms the caller's address",
             (USER, "verify_email"), **MAILED),
        post(CONFIRM_PATH, "confirm_email", "Confirm an address with a mailed link", (HOLDER, "confirm_email"),
             confirmation.ConfirmedEmail, confirmation.ConfirmBody, secret=True, **OPEN),
    )
    # fmt: on

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges, cookies: Cookies) -> None:
        super().__init__(forwarder, settings, charges)
        self._cookies = cookies
        self._home = settings.home
        self._page = load_page("link.html")
        self._cli_page = load_page("cli_login.html", forms=COMMANDS)
        # A new key signs only after every cached older key set has expired.
        max_age = int(min(KEYS_MAX_AGE, settings.key_notice / 2))
        self._keys_headers = (JSON_HEADER, (b"cache-control", f"public, max-age={max_age}".encode()))

    @get("/auth/me", "me", "Show the caller, with its session or API key", response=Whoami, secret=True, needs=ANY)
    async def me(self, request: HttpRequest) -> HttpResponse:
        caller, forwarder = request.principal, self._forwarder
        if not caller.key:
            return HttpResponse(200, await self._show_session(request), NO_STORE)
        subject = subjects.call(users.TYPE, caller.subject, "show")
        user = _user_shown.decode(await forwarder.request(subject, b"{}", forwarder.own_options(request)))
        shown = user if caller.has(users.OWN_PROFILE) else _without_profile(user)
        granted = caller.permissions | {f"{name}:{attribute}={value}" for name, attribute, value in caller.narrowed}
        answer = Whoami(user=shown, permissions=sorted(granted), key=caller.key)
        return HttpResponse(200, msgspec.json.encode(answer), NO_STORE)

    async def _show_session(self, request: HttpRequest) -> bytes:
        subject = subjects.call(SESSION_TYPE, _session(request), "me")
        try:
            return await self._forwarder.request(subject, b"{}", self._forwarder.options(request))
        except Failure as failure:
            # The session may have ended a moment ago, and its token with it.
            if failure.code == "not-found":
                raise Failure("unauthenticated", "the session has ended") from None
            raise

    @post("/auth/login", "login", "Log in", body=authentication.LoginBody, **LOGIN)
    async def login(self, request: HttpRequest, body: authentication.LoginBody) -> HttpResponse:
        return await self._open(request, authentication.account_id(body.username), "login", body)

    @post("/auth/mfa/verify", "verify_mfa", VERIFY, body=authentication.MfaVerifyBody, about=CHALLENGE, **LOGIN)
    async def verify(self, request: HttpRequest, body: authentication.MfaVerifyBody) -> HttpResponse:
        return await self._open(request, authentication.account_of(body.challenge), "verify", body)

    @post("/auth/refresh", "refresh", RENEW, body=RefreshBody, raw=True, optional=True, about=REFRESH, **TOKENS)
    async def refresh(self, request: HttpRequest) -> HttpResponse:
        token = self._cookies.read(request.headers).get(self._cookies.refresh)
        payload = await request.body(self.body_limit)
        if token and payload:
            raise Failure(
                "bad-request", "send the refresh token in the body or in its cookie, not both", field="Cookie"
            )
        if token:
            payload = msgspec.json.encode(RefreshBody(refresh_token=token))
        session = authentication.session_of(bodies.decode(_refresh, payload, "body").refresh_token)
        if token:
            self._cookies.check(request.headers, session)
        options = self._forwarder.anonymous_options(request)
        try:
            reply = await self._request(SESSION_TYPE, session, "refresh", payload, options)
        except Failure as failure:
            if not token or failure.code != "unauthenticated":
                raise
            # The session has ended: without its cookies, the browser is anonymous again.
            response = problem_response(failure)
            return response._replace(headers=(*response.headers, *self._cookies.clear()))
        return self._tokens(reply, bool(token))

    @post("/auth/logout", "logout", "End this session", query=(ALL,))
    async def logout(self, request: HttpRequest) -> HttpResponse:
        method = "end_all" if parameters.parse_flag(request.parameters, "all") else "end"
        await self._request(SESSION_TYPE, _session(request), method, b"{}", self._forwarder.options(request))
        return HttpResponse(204, headers=self._cookies.clear() if b"cookie" in request.headers else ())

    @delete(TOTP, "disable_totp", DISABLE, body=ProofBody, raw=True, optional=True, headers=OTP)
    async def disable(self, request: HttpRequest) -> HttpResponse:
        """Remove the second factor with the password in the body or a code in the header `Otp`.

        Not every client can send a body with DELETE (RFC 9110 §9.3.5). A used code is worthless to
        anyone who logs headers.
        """
        otp = request.header(b"otp")
        if otp is None:
            payload = await request.body(self.body_limit)
            bodies.decode(_proof, payload, "body")
        else:
            payload = msgspec.json.encode({"otp": otp})
        options = self._forwarder.options(request)
        await self._request(SESSION_TYPE, _session(request), "disable_totp", payload, options)
        return HttpResponse(204, headers=())

    @get(RESET_PATH, "show_reset_page", "Show the page for a link that resets the password", **FORM)
    @get(CONFIRM_PATH, "show_confirm_page", "Show the page for a link that confirms an address", **FORM)
    async def show_page(self, request: HttpRequest) -> HttpResponse:
        return self._page

    @get("/auth/cli", "show_cli_page", "Show the page on which `aidevos login --browser` logs in", **FORM)
    async def show_cli_page(self, request: HttpRequest) -> HttpResponse:
        return self._cli_page

    @get("/.well-known/jwks.json", "keys", "Show the public keys that verify access tokens (RFC 7517)", **KEYS)
    async def keys(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, read_public_keys(self._home), self._keys_headers)

    async def _open(self, request: HttpRequest, account: str, method: str, body: msgspec.Struct) -> HttpResponse:
        with_cookies = parameters.parse_flag(request.parameters, "cookie")
        if with_cookies:
            self._cookies.check_tls()
            self._cookies.check_origin(request.headers)
        device = (request.header(b"user-agent") or "")[:DEVICE_LIMIT]
        payload = msgspec.json.encode({**msgspec.structs.asdict(body), "device": device})
        options = self._forwarder.anonymous_options(request)
        reply = await self._request(authentication.ACCOUNT_TYPE, account, method, payload, options)
        return self._tokens(reply, with_cookies)

    def _tokens(self, reply: bytes, with_cookies: bool) -> HttpResponse:
        """Return the response to a login: the pair of tokens, or cookies that hold it."""
        if not with_cookies:
            return HttpResponse(200, reply, NO_STORE)
        body, headers = self._cookies.issue(reply)
        return HttpResponse(200, body, (*NO_STORE, *headers))

    async def _request(self, type: str, id: str, method: str, payload: bytes, options: dict[str, Any]) -> bytes:
        return await self._forwarder.request_with_body(subjects.call(type, id, method), payload, options)


class AccessTokenRouter(APIRouter):
    """`/access-tokens`."""

    tag = "access-tokens"
    about = "Tokens of `aidevos token`"
    permission = access_tokens.MANAGE
    variables = (variable("token_id", "A token's ID"),)
    # fmt: off
    rows = (
        get("/access-tokens", "list_access_tokens", "List the tokens of `aidevos token`",
            subjects.query(access_tokens.TYPE, access_tokens.SEARCH), access_tokens.TokenPage, query=PAGE),
        delete("/access-tokens/{token_id}", "revoke_access_token", "Revoke a token of `aidevos token`",
               (Target(access_tokens.TYPE, in_path("token_id", "token")), "revoke")),
    )
    # fmt: on


class AuditRouter(APIRouter):
    """`/audit`."""

    tag = "audit"
    about = "The security log"
    permission = audit.READ_AUDIT
    rows = (get("/audit", "search_audit", "Read the security log", SEARCH, audit.AuditPage, query=(*PAGE, *ENTRIES)),)
