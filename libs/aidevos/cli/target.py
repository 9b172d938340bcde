"""The fleet that a command talks to, and the credential that it presents there.

It is the first of these that there is: the context that the option `--context` names, `AIDEVOS_URL`, the context in
use, the fleet under `AIDEVOS_HOME`. `AIDEVOS_TOKEN`, an access token or an API key, takes the place of the fleet's own
credential, except with `--context`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aidevos.cli.contexts import LOCAL, Context, load_contexts
from aidevos.cli.errors import UNREACHABLE, CommandError
from aidevos.security.permissions import OWNER

if TYPE_CHECKING:
    from aidevos.security.key_ring import SigningKey

URL, TOKEN, CONTEXT = "AIDEVOS_URL", "AIDEVOS_TOKEN", "AIDEVOS_CONTEXT"
# Seconds: the life of the tokens of the local administrator, and the age at which a command takes a new one.
LIFETIME, RENEWED_AFTER = 60.0, 20.0
# The name of the context that the caller has chosen for this command, or "".
chosen: ContextVar[str] = ContextVar("chosen", default="")
Token = str | Callable[[], Awaitable[str]] | None


class Target(NamedTuple):
    """A fleet and the caller's credential there. `home` is that of a fleet on this machine.

    `name` is its context's, and `user` says in words who calls.
    """

    url: str
    token: Token
    name: str = ""
    user: str = ""
    home: Path | None = None


def find_target() -> Target:
    """Return the fleet to talk to. Raises `CommandError` or `SettingsError`."""
    target = find_optional_target()
    if target is None:
        from aidevos.settings import load

        raise CommandError(
            f"no fleet is up under {load().home}, and no other is in use: run `aidevos up`, set AIDEVOS_HOME to the "
            "home of a fleet, or run `aidevos login URL`",
            UNREACHABLE,
        )
    return target


def find_owned_target() -> Target:
    """Return the fleet to talk to: one on this machine with the credential of its owner. Raises like `find_target`."""
    target = find_target()
    if target.home is None or not isinstance(target.token, Administrator):
        return target
    return target._replace(token=Administrator(target.home, owns=True), user="the owner")


def find_optional_target() -> Target | None:
    """Return the fleet to talk to, or None if it is that of this machine and isn't up. Raises `CommandError`."""
    name, url, token = chosen.get(), os.environ.get(URL, ""), os.environ.get(TOKEN, "")
    if name:
        return _named(name)
    found = _of_url(url) if url else _named(load_contexts().current or LOCAL)
    return found._replace(token=token, user=f"the holder of {TOKEN}") if token and found else found


def is_local() -> bool:
    """True if commands use the fleet of this machine, whether or not it is up. Raises `CommandError`."""
    target = find_optional_target()
    return target is None or target.home is not None


def _named(name: str) -> Target | None:
    return _local() if name == LOCAL else _of_context(name, load_contexts().get(name))


def _of_context(name: str, context: Context) -> Target:
    from aidevos.cli.logins import Login

    user = context.username or ("the holder of a token" if context.access_token else "")
    return Target(context.url, Login(name) if context.access_token else None, name, user)


def _of_url(url: str) -> Target:
    """Return a fleet with the credential of a context that has the same URL, if there is one."""
    stored, url = load_contexts(), url.rstrip("/")
    name = stored.name_of(url)
    return _of_context(name, stored.get(name)) if name else Target(url, None)


def _local() -> Target | None:
    from aidevos.process.fleet import FLEET_FILE, load_fleet
    from aidevos.settings import load

    home = load().home
    if not (home / FLEET_FILE).exists():
        return None
    return Target(load_fleet(home).gateway_url, Administrator(home), LOCAL, "the administrator", home)


def signing_key(home: Path) -> SigningKey:
    """Return the key of a home that signs now. Raises `CommandError`."""
    from aidevos.security.keys import load_signing_key

    try:
        return load_signing_key(home)
    except (OSError, ValueError) as error:
        raise CommandError(f"no signing key under AIDEVOS_HOME={home} (`make up` creates one): {error}") from None


class Administrator:
    """The tokens of the administrator of a fleet on this machine, signed with the key of its home.

    They are those of the first administrator, a user, so that API keys, projects and the like have an owner. If that
    user is no administrator any more, they are those of the fleet's owner. With `owns`, they are always the owner's,
    who alone may see and load all states.
    """

    def __init__(self, home: Path, *, owns: bool = False) -> None:
        self._home = home
        self._roles = ("admin", "service") if owns else ("admin",)
        self._subject = OWNER if owns else ""
        self._token = ""
        self._renew_at = 0.0

    async def __call__(self) -> str:
        """Return a token that is valid now. Raises `CommandError` if the key can't be read."""
        if time.monotonic() >= self._renew_at:
            self._subject = self._subject or await self._find_subject()
            self._token = self._issue(self._subject)
            self._renew_at = time.monotonic() + RENEWED_AFTER
        return self._token

    async def _find_subject(self) -> str:
        """Return the ID of the first administrator, or the name of the fleet's owner."""
        from aidevos.client.api import HttpApi
        from aidevos.client.errors import NotFound
        from aidevos.contracts.users import administrator_id
        from aidevos.process.fleet import load_fleet

        fleet = load_fleet(self._home)
        id = administrator_id(fleet.admin_username)
        try:
            async with HttpApi(fleet.gateway_url, token=self._issue(OWNER)) as api:
                user = await api.call("GET", f"/users/{id}")
        except NotFound:
            return OWNER
        return id if user["status"] == "active" and "admin" in user["roles"] else OWNER

    def _issue(self, subject: str) -> str:
        from aidevos.process.fleet import load_fleet
        from aidevos.security.tokens import TokenIssuer

        issuer = TokenIssuer(signing_key(self._home), load_fleet(self._home).public_url)
        return issuer.issue(subject, roles=self._roles, lifetime=LIFETIME)
