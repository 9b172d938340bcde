"""The keys with which services sign: each has its own, and it is good for that service alone.

Promise: with the key of a service, nobody can sign what counts as another's. It signs tokens of the role `service` for
that service, with the permissions that the owner of the home has registered. A service that is registered to act for
others, to replay messages and to call for users, may also sign delegations, and tokens of other services. Access tokens
of users count only with the keys of `aidevos.security.keys`, which the authentication service holds.

`public/services.json` holds what verifiers need. Only the owner of the home needs to write it: a process that can do so
registers its service when it starts. `service_keys/<service>.json` holds the private key, for that service alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.security import key_ring
from aidevos.security.key_ring import Key, SigningKey
from aidevos.security.keys import PUBLIC as ISSUER_KEYS
from aidevos.security.keys import PUBLIC_FOLDER, load_public_keys
from aidevos.security.secret_files import lock, write_secret
from aidevos.settings import SettingsError

PUBLIC = "services.json"
FOLDER = "service_keys"


class ServiceKey(NamedTuple):
    """A service's public key, and what a signature of it is good for."""

    public: Ed25519PublicKey
    service: str
    permissions: frozenset[str]
    acts_for_others: bool

    def may_issue(self, subject: str, roles: tuple[str, ...], permissions: frozenset[str]) -> bool:
        """True if an access token with these claims counts."""
        if roles != ("service",) or not subject.startswith("service:"):
            return False
        return self.acts_for_others or (subject == f"service:{self.service}" and permissions <= self.permissions)

    def may_delegate(self, actor: str) -> bool:
        """True if a delegation to this actor counts."""
        return self.acts_for_others and actor == f"service:{self.service}"


class _PublicKey(msgspec.Struct, frozen=True):
    """`until` is the time at which a replaced key ends, in seconds since the epoch."""

    id: str
    x: str
    until: float | None = None


class Registration(msgspec.Struct, frozen=True):
    """The rights of a service, and its public keys. The newest key comes last."""

    permissions: frozenset[str]
    acts_for_others: bool
    keys: tuple[_PublicKey, ...]

    def covers(self, permissions: frozenset[str], acts_for_others: bool) -> bool:
        return permissions <= self.permissions and self.acts_for_others >= acts_for_others


class ServiceSigningKeys:
    """The key of a service, as a process of it follows it: a replaced one counts from the next signature."""

    def __init__(
        self, home: Path, service: str, permissions: Iterable[str] = (), *, acts_for_others: bool = False
    ) -> None:
        """Register the service if that is needed; raises `SettingsError` if only the owner of the home can."""
        try:
            register(home, service, permissions, acts_for_others=acts_for_others)
        except OSError as error:
            raise SettingsError(
                f"{service} isn't registered for what it does under AIDEVOS_HOME={home}; "
                f"its owner has to run the set-up or `aidevos grant`: {error.strerror}"
            ) from None
        self._path = _private(home, service)
        self._seen: tuple[int, int] | None = None
        self.at(time.time())

    def at(self, moment: float) -> SigningKey:
        """Return the key for a signature at this time."""
        found = _stamp(self._path)
        if found != self._seen:
            self._key = _read_private(self._path).signing
            self._seen = found
        return self._key


def register(home: Path, service: str, permissions: Iterable[str] = (), *, acts_for_others: bool = False) -> None:
    """Let a service sign for itself with at least these permissions, and create its key if it has none.

    Raises `OSError` if that needs a change, and this process may not write.
    """
    wanted = frozenset(permissions)
    known = load_registrations(home).get(service)
    if known is not None and known.covers(wanted, acts_for_others) and _private(home, service).exists():
        return
    with _changing(home):
        registered = load_registrations(home)
        known = registered.get(service) or Registration(frozenset(), False, ())
        path = _private(home, service)
        key = _read_private(path) if path.exists() else Key.generate("first", time.time(), time.time())
        keys = known.keys
        if key.id not in {public.id for public in keys}:
            keys = (*_ended(keys, time.time()), _PublicKey(key.id, key.public))
        allowed = Registration(known.permissions | wanted, known.acts_for_others or acts_for_others, keys)
        _write(home, registered | {service: allowed})
        if not path.exists():
            write_secret(path, msgspec.json.encode(key))


def replace_keys(home: Path, *, at_once: bool) -> None:
    """Give each service a new key. The old ones end at once, or when the last tokens that they signed have expired."""
    now = time.time()
    with _changing(home):
        registered, made = load_registrations(home), {}
        for service, known in registered.items():
            key = made[service] = Key.generate("command", now, now)
            before = () if at_once else _ended(known.keys, now)
            keys = (*before, _PublicKey(key.id, key.public))
            registered[service] = msgspec.structs.replace(known, keys=keys)
        _write(home, registered)
        for service, key in made.items():
            write_secret(_private(home, service), msgspec.json.encode(key))


class VerificationKeys:
    """The keys that verifiers need: those of the issuer and of all services. Read again only when they have changed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._paths = [home / PUBLIC_FOLDER / name for name in (ISSUER_KEYS, PUBLIC)]
        self._seen: list[tuple[int, int]] | None = None
        self._until = 0.0
        self._keys: dict[str, Ed25519PublicKey | ServiceKey] = {}

    def __call__(self) -> dict[str, Ed25519PublicKey | ServiceKey]:
        """Return a map from key ID to key. Raises `OSError` and `ValueError` for a file that can't be read."""
        now, found = time.time(), [_stamp(path) for path in self._paths]
        if found != self._seen or now >= self._until:
            registrations = load_registrations(self._home)
            ends = [key.until for known in registrations.values() for key in known.keys if key.until is not None]
            self._keys = {**load_public_keys(self._home), **_valid_keys(registrations, now)}
            self._until = min((end for end in ends if end > now), default=math.inf)
            self._seen = found
        return self._keys


def _valid_keys(registrations: Mapping[str, Registration], now: float) -> dict[str, ServiceKey]:
    return {
        key.id: ServiceKey(key_ring.public_key(key.x), service, known.permissions, known.acts_for_others)
        for service, known in registrations.items()
        for key in known.keys
        if key.until is None or key.until > now
    }


def _stamp(path: Path) -> tuple[int, int]:
    """Return what differs once the file was replaced; zeros if it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def load_registrations(home: Path) -> dict[str, Registration]:
    """Return what is registered, by service."""
    try:
        content = (home / PUBLIC_FOLDER / PUBLIC).read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(content, type=dict[str, Registration])


def _ended(keys: tuple[_PublicKey, ...], now: float) -> tuple[_PublicKey, ...]:
    """Return the keys that some verifier still needs, each with its end."""
    end = now + TOKEN_LIFETIME + CLOCK_MARGIN
    left = [key for key in keys if key.until is None or key.until > now]
    return tuple(msgspec.structs.replace(key, until=min(key.until or end, end)) for key in left)


def _changing(home: Path) -> AbstractContextManager[None]:
    (home / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / PUBLIC_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    return lock(home / PUBLIC_FOLDER)


def _write(home: Path, registered: Mapping[str, Registration]) -> None:
    write_secret(home / PUBLIC_FOLDER / PUBLIC, msgspec.json.encode(registered, order="deterministic"))


def _private(home: Path, service: str) -> Path:
    return home / FOLDER / f"{service}.json"


def _read_private(path: Path) -> Key:
    return msgspec.json.decode(path.read_bytes(), type=Key)
