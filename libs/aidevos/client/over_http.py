"""HTTP as an entry point of the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from aidevos.client.api import HttpApi
from aidevos.client.credentials import TokenSource
from aidevos.client.entry import NO_OPTIONS, LiveEvent, Operation, Options
from aidevos.contracts import envelope
from aidevos.contracts.events import AnyEvent

GAP = "gap"


class OverHttp:
    """Performs operations over HTTP."""

    def __init__(self, api: HttpApi) -> None:
        self._api = api

    @property
    def token(self) -> str | TokenSource | None:
        return self._api.token

    @token.setter
    def token(self, token: str | TokenSource | None) -> None:
        self._api.token = token

    async def perform(
        self,
        operation: Operation,
        args: Any = None,
        *,
        over_nats: Mapping[str, Any] | None = None,
        media: str = envelope.JSON,
        options: Options = NO_OPTIONS,
        anonymous: bool = False,
    ) -> Any:
        reads = operation.verb == "GET"
        return await self._api.call(
            operation.verb,
            operation.path,
            body=None if reads else args,
            params=args if reads else None,
            headers=_headers(options) | ({} if reads or args is None else {envelope.CONTENT_TYPE: media}),
            deadline=options.deadline,
            anonymous=anonymous,
        )

    async def send(self, options: Options, type: str, id: str, method: str, payload: bytes) -> bytes:
        body = b'{"method":"%b","args":%b}' % (method.encode(), payload or b"{}")
        path = f"/durable-objects/{type}:{id}/request"
        answer = await self._api.call("POST", path, body=body, headers=_headers(options), deadline=options.deadline)
        return msgspec.json.encode(answer["result"])

    async def events(self, wanted: Mapping[str, list[str]], after: str | None) -> AsyncGenerator[LiveEvent, None]:
        async with aclosing(self._api.events(params=wanted, last_event_id=after)) as events:
            async for position, type, data in events:
                if type == GAP:
                    yield LiveEvent(GAP, "", data, "", "", position)
                    continue
                event = msgspec.convert(data, AnyEvent)
                yield LiveEvent(type, event.object_id, event.data, event.id, event.time, position)

    async def close(self) -> None:
        await self._api.close()


def _headers(options: Options) -> dict[str, str]:
    headers = {}
    if options.request_id is not None:
        headers["Idempotency-Key"] = options.request_id
    if options.if_match is not None:
        headers[envelope.IF_MATCH] = f'"{options.if_match}"'
    return headers
