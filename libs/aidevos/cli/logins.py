"""The access tokens of contexts, which are renewed before they end.

Promise: two commands never spend one refresh token, which would end the session.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from aidevos.cli.contexts import Context, changed_contexts, load_contexts
from aidevos.cli.errors import UNAUTHORISED, CommandError

# Seconds before its end at which an access token is renewed.
MARGIN = 30.0


class Login:
    """The access token of the context with this name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context: Context | None = None
        self._refused = ""
        self._lock = asyncio.Lock()

    def expire(self, token: str) -> None:
        """Renew this token before the next request, if it can be renewed."""
        self._refused = token

    async def __call__(self) -> str:
        """Return a token that is valid now. Raises `CommandError` if the login has ended."""
        async with self._lock:
            if self._context is None:
                self._context = load_contexts().get(self._name)
            if self._must_renew(self._context):
                self._context = await self._renew()
            return self._context.access_token

    def _must_renew(self, context: Context) -> bool:
        refused = context.access_token == self._refused
        return bool(context.refresh_token) and (refused or context.expires_at < time.time() + MARGIN)

    async def _renew(self) -> Context:
        with changed_contexts() as stored:
            context = stored.get(self._name)
            # Another command may have renewed it in the meantime.
            if self._must_renew(context):
                keep(context, await _refresh(context))
            return context


def keep(context: Context, tokens: Mapping[str, Any]) -> None:
    """Put the tokens of a login or a refresh into a context."""
    context.access_token, context.refresh_token = tokens["access_token"], tokens["refresh_token"]
    context.expires_at = time.time() + tokens["expires_in"]
    context.username = tokens["user"]["username"]
    if tokens["must_enrol"]:
        advice = f"set up a second factor at {context.url}/console: until then, you may do nothing else"
        print(f"aidevos: {advice}", file=sys.stderr)


async def _refresh(context: Context) -> Any:
    from aidevos.client.api import HttpApi
    from aidevos.client.errors import Unauthenticated

    try:
        async with HttpApi(context.url) as api:
            return await api.call("POST", "/auth/refresh", body={"refresh_token": context.refresh_token})
    except Unauthenticated:
        advice = f"run `aidevos login {context.url}`"
        raise CommandError(f"the login at {context.url} has ended: {advice}", UNAUTHORISED) from None
