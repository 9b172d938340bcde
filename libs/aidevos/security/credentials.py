"""The credential that a service's objects use for their calls."""

from __future__ import annotations

import time
from collections.abc import Iterable

from aidevos.security.permissions import Principal
from aidevos.security.service_keys import ServiceSigningKeys
from aidevos.security.tokens import LIFETIME, TokenIssuer
from aidevos.settings import Settings


class ServiceCredential:
    """A token with the role `service`, renewed before it expires and when another key signs.

    Its permissions are those of `permissions`, by default those that the service's own types declare,
    and those in `AIDEVOS_SERVICE_PERMISSIONS`, separated by commas.
    """

    def __init__(self, settings: Settings, service: str, permissions: Iterable[str] = ()) -> None:
        configured = {name.strip() for name in settings.service_permissions.split(",") if name.strip()}
        self._permissions = tuple(sorted(configured | set(permissions)))
        self._subject = f"service:{service}"
        self._keys = ServiceSigningKeys(settings.home, service, self._permissions)
        self._issuer = TokenIssuer(self._keys, settings.public_url)
        self._header = ""
        self._key = ""
        self._renew_at = 0.0

    @property
    def principal(self) -> Principal:
        """The principal that hosts see."""
        return Principal(self._subject, ("service",), frozenset(self._permissions))

    def renew(self) -> None:
        """Issue a new token for the next call."""
        self._renew_at = 0.0

    def authorization(self) -> str:
        """Return the value of the `Authorization` header."""
        now = time.time()
        key = self._keys.at(now).id
        if now >= self._renew_at or key != self._key:
            token = self._issuer.issue(self._subject, roles=("service",), permissions=self._permissions)
            self._header = f"Bearer {token}"
            self._key = key
            self._renew_at = now + LIFETIME / 2
        return self._header
