"""The credential with which a service's objects call others."""

from __future__ import annotations

import time
from collections.abc import Iterable

from aidevos.security.keys import load_signing_key
from aidevos.security.tokens import LIFETIME, TokenIssuer
from aidevos.settings import Settings


class ServiceCredential:
    """A token of the role `service`, renewed before it expires.

    It carries the permissions that it is given: by default those that the service's own types
    declare, and those that `AIDEVOS_SERVICE_PERMISSIONS` lists, separated by commas.
    """

    def __init__(self, settings: Settings, service: str, permissions: Iterable[str] = ()) -> None:
        given = {name.strip() for name in settings.service_permissions.split(",") if name.strip()}
        self._permissions = tuple(sorted(given | set(permissions)))
        self._subject = f"service:{service}"
        self._issuer = TokenIssuer(load_signing_key(settings.home))
        self._header = ""
        self._renew_at = 0.0

    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        if time.time() >= self._renew_at:
            token = self._issuer.issue(self._subject, roles=("service",), permissions=self._permissions)
            self._header = f"Bearer {token}"
            self._renew_at = time.time() + LIFETIME / 2
        return self._header
