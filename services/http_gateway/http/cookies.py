"""Browser sessions: tokens in cookies that scripts can't read, protected from use by other sites.

Promise: a request with a cookie changes something only if a page of this origin sent it with the
session's CSRF token. Other sites can't read that token (OWASP, cross-site request forgery). Bearer
tokens need neither. A request with both is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from starlette.requests import cookie_parser

from aidevos.contracts.authentication import CookieSession, TokenPair, session_of
from aidevos.contracts.errors import Failure
from aidevos.security.keys import CSRF, ensure_secret
from aidevos.settings import Settings

from .responses import Header

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


_pair = msgspec.json.Decoder(TokenPair)


class Cookies:
    """The cookies of the gateway's origin, which is that of `AIDEVOS_PUBLIC_URL`."""

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.public_url)
        self._origin = f"{url.scheme}://{url.netloc}".encode()
        self._scheme = f"{url.scheme}://".encode()
        self._secure = url.scheme == "https"
        self._is_possible = self._secure or _is_loopback(url.hostname or "")
        # Browsers accept this prefix only with TLS.
        prefix = "__Host-" if self._secure else ""
        self.access, self.refresh, self.csrf = (f"{prefix}aidevos_{name}" for name in ("access", "refresh", "csrf"))
        self._key = ensure_secret(settings.home, CSRF)
        self._refresh_age = int(settings.refresh_age)

    def read(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return the cookies of a request by name."""
        sent = headers.get(b"cookie")
        return cookie_parser(sent.decode("latin-1")) if sent else {}

    def check_tls(self) -> None:
        """Raise `conflict` if a browser would send the cookies unencrypted over the network."""
        if not self._is_possible:
            raise Failure("conflict", "cookies need TLS: set AIDEVOS_PUBLIC_URL to the https:// URL of this gateway")

    def check_origin(self, headers: Mapping[bytes, bytes], *, must_be_named: bool = False) -> None:
        """Raise `forbidden` if the browser says that another origin's page sent the request.

        With `must_be_named`, also raise it if the request names no origin at all.
        """
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        is_unnamed = site is None and origin is None
        if (
            (is_unnamed and must_be_named)
            or site not in (None, b"same-origin")
            or origin not in (None, *self._origins(headers))
        ):
            raise Failure("forbidden", "requests with cookies must come from a page of the same origin")

    def check(self, headers: Mapping[bytes, bytes], session: str) -> None:
        """Raise `forbidden` unless a page of this origin sent the request with the session's CSRF token."""
        self.check_origin(headers, must_be_named=True)
        shown = headers.get(CSRF_HEADER.lower().encode(), b"")
        if not hmac.compare_digest(shown, self.csrf_token(session).encode()):
            raise Failure("forbidden", f"send the session's csrf_token in {CSRF_HEADER}", field=CSRF_HEADER)

    def csrf_token(self, session: str) -> str:
        digest = hmac.digest(self._key, session.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def issue(self, reply: bytes) -> tuple[bytes, tuple[Header, ...]]:
        """Return the body and headers that give a browser the `TokenPair` of this reply as cookies."""
        pair = _pair.decode(reply)
        csrf = self.csrf_token(session_of(pair.refresh_token))
        shown = CookieSession(expires_in=pair.expires_in, csrf_token=csrf, user=pair.user, must_enrol=pair.must_enrol)
        return msgspec.json.encode(shown), (
            self._set(self.access, pair.access_token, pair.expires_in),
            self._set(self.refresh, pair.refresh_token, self._refresh_age),
            self._set(self.csrf, csrf, self._refresh_age, readable=True),
        )

    def clear(self) -> tuple[Header, ...]:
        """Return headers that delete the cookies."""
        return tuple(self._set(name, "", 0) for name in (self.access, self.refresh, self.csrf))

    def _origins(self, headers: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
        return self._origin, self._scheme + headers.get(b"host", b"")

    def _set(self, name: str, value: str, age: int, *, readable: bool = False) -> Header:
        parts = [f"{name}={value}", "Path=/", f"Max-Age={age}", "SameSite=Strict"]
        parts += [] if readable else ["HttpOnly"]
        parts += ["Secure"] if self._secure else []
        return b"set-cookie", "; ".join(parts).encode()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
