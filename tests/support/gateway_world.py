"""A gateway on a free port, with real NATS and a fake host of three types behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import nats
import uvicorn
from nats.aio.client import Client
from nats.aio.msg import Msg

from aidevos.contracts import envelope, rate_limits, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import TypeDescription
from aidevos.security.keys import load_signing_key
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings
from services.http_gateway.bootstrap import Application, server_config
from tests.support.http import http_client
from tests.support.servers import Servers


def described(type: str, **changes: Any) -> TypeDescription:
    """Return a type with a state, two methods and shared definitions, as a host announces it."""
    fields: dict[str, Any] = {
        "type": type,
        "doc": f"A {type}.",
        "management": "raw",
        "state": {"$ref": "#/$defs/State"},
        "methods": [
            {
                "name": "increment",
                "kind": "command",
                "doc": "Add to the value.",
                "allow": f"{type}:write",
                "args": {"$ref": "#/$defs/IncrementArgs"},
                "result": {"type": "integer"},
            },
            {
                "name": "move",
                "kind": "command",
                "doc": "",
                "allow": f"{type}:write",
                "args": {"$ref": "#/$defs/MoveArgs"},
                "result": {"$ref": "#/$defs/State"},
            },
        ],
        "defs": {
            "State": {"type": "object", "title": "State", "properties": {"value": {"type": "integer", "default": 0}}},
            "IncrementArgs": {
                "type": "object",
                "properties": {"by": {"type": "integer", "default": 1}},
                "required": [],
                "additionalProperties": False,
            },
            "MoveArgs": {"type": "object", "properties": {"to": {"$ref": "#/$defs/State"}}, "required": ["to"]},
        },
    }
    return msgspec.convert(fields | changes, TypeDescription)


class FakeHost:
    """A fake host that answers from memory; `seen` holds the messages that reached it."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.seen: list[Msg] = []
        self.objects: dict[str, tuple[int, Any]] = {}
        self.healthy = True
        self.problems: list[dict[str, str]] = []
        self._subscriptions: list[Any] = []
        self._announced: set[str] = set()

    async def was_asked(self) -> bool:
        return bool(self.seen)

    @property
    def last(self) -> Msg:
        return self.seen[-1]

    @property
    def headers(self) -> dict[str, str]:
        return self.last.headers or {}

    async def start(self, *types: str) -> None:
        """Announce and serve these types, and no others."""
        bucket = await self.connection.jetstream().key_value(subjects.TYPES_BUCKET)
        with contextlib.suppress(nats.js.errors.NoKeysError):
            self._announced.update(await bucket.keys())
        await self.leave()
        self._subscriptions.append(await self.connection.subscribe(subjects.health("objects"), cb=self._health))
        keys = subjects.owned(envelope.IDEMPOTENCY_KEY_TYPE)
        self._subscriptions.append(await self.connection.subscribe(keys, cb=self._use_key))
        quotas = subjects.owned(rate_limits.QUOTA_TYPE)
        self._subscriptions.append(await self.connection.subscribe(quotas, cb=self._give))
        for type in types:
            await self.host(type)

    async def host(self, type: str, **changes: Any) -> None:
        """Serve and announce a type."""
        for subject in (subjects.owned(type), subjects.query(type, "list")):
            self._subscriptions.append(await self.connection.subscribe(subject, cb=self._answer))
        bucket = await self.connection.jetstream().key_value(subjects.TYPES_BUCKET)
        await bucket.put(type, msgspec.json.encode(described(type, **changes)))
        self._announced.add(type)

    def reset(self) -> None:
        """Forget all objects and messages."""
        self.objects.clear()
        self.seen.clear()

    async def leave(self) -> None:
        bucket = await self.connection.jetstream().key_value(subjects.TYPES_BUCKET)
        while self._announced:
            await bucket.delete(self._announced.pop())

    async def stop_serving(self) -> None:
        """Stop answering without notice, as a killed process does."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()

    async def _health(self, message: Msg) -> None:
        ok = self.healthy and all(problem["status"] == "warn" for problem in self.problems)
        report: dict[str, Any] = {"name": "objects", "replica": 0, "ok": ok, "detail": "" if ok else "no MongoDB"}
        report |= {"problems": self.problems} if self.problems else {}
        await message.respond(msgspec.json.encode(report))

    async def _use_key(self, message: Msg) -> None:
        """Treat every use of an idempotency key as the first."""
        await self.connection.publish(message.reply, b"null")

    async def _give(self, message: Msg) -> None:
        """Grant every request for quota."""
        taken = rate_limits.QuotaSlice(taken=10_000, remaining=10_000, reset=0.0, retry=0.0)
        await self.connection.publish(message.reply, msgspec.json.encode(taken))

    async def _answer(self, message: Msg) -> None:
        self.seen.append(message)
        try:
            reply = self._perform(message)
        except Failure as failure:
            headers = {envelope.ERROR_CODE: failure.code, envelope.ERROR: failure.detail}
            await self.connection.publish(message.reply, failure.encode(), headers=headers)
        else:
            if reply is not None:
                await self.connection.publish(message.reply, reply)

    def _perform(self, message: Msg) -> bytes | None:
        if message.subject.startswith("query."):
            return self._list(message)
        _, type, id, method = subjects.parse_owned(message.subject)
        if id == "silent":
            return None
        object_id = f"{type}:{id}"
        version, state = self.objects.get(object_id, (0, None))
        match method:
            case "_create":
                if version:
                    raise Failure("exists", "the object exists already")
                state = msgspec.json.decode(message.data).get("state", {})
                self.objects[object_id] = (1, state)
                return self._shown(object_id)
            case "_read" | "_delete" if not version:
                raise Failure("not-found", "there is no such object")
            case "_read":
                return self._shown(object_id)
            case "_replace":
                condition = (message.headers or {}).get(envelope.IF_MATCH)
                if condition is not None and condition != f'"{version}"':
                    raise Failure("precondition-failed", f"the object has version {version}")
                self.objects[object_id] = (version + 1, msgspec.json.decode(message.data)["state"])
                return self._shown(object_id)
            case "_delete":
                del self.objects[object_id]
                return b"null"
            case "echo":
                return message.data
            case "nothing":
                return b""
            case "silence" | "later":
                return None
            case "refuse":
                raise Failure("out-of-stock", "none left", field="args.item", status=409)
            case "overload":
                raise Failure("overloaded", "too much", retry_after=2.2)
            case "broken":
                raise Failure("internal", "a bug", error_id="abc")
            case _:
                raise Failure("unknown-method", "no such method", field="method")

    def _list(self, message: Msg) -> bytes:
        type = message.subject.split(".")[1]
        args = msgspec.json.decode(message.data)
        found = sorted(object_id for object_id in self.objects if object_id.startswith(f"{type}:"))
        found = [object_id for object_id in found if object_id > (args["cursor"] or "")]
        page = found[: args["limit"]]
        items = [msgspec.Raw(self._shown(object_id)) for object_id in page]
        shown = {"items": items, "next_cursor": page[-1] if len(found) > len(page) else None}
        return msgspec.json.encode(shown | ({"count": len(found)} if args.get("count") else {}))

    def _shown(self, object_id: str) -> bytes:
        version, state = self.objects[object_id]
        type, id = subjects.split_object_id(object_id)
        now = datetime.now(UTC).isoformat()
        shown = {"object_id": object_id, "type": type, "id": id, "version": version, "state": state}
        return msgspec.json.encode({**shown, "status": "active", "created_at": now, "updated_at": now})


class World:
    """The gateway's URL, a client with an administrator's token, and the fake host behind it."""

    def __init__(self, url: str, settings: Settings, host: FakeHost) -> None:
        self.url = url
        self.settings = settings
        self.host = host
        self.http = http_client(base_url=url, timeout=30, headers=self.authorized("admin"))
        self.anonymous = http_client(base_url=url, timeout=30)

    def authorized(self, *roles: str, permissions: tuple[str, ...] = (), subject: str = "someone") -> dict[str, str]:
        issuer = TokenIssuer(load_signing_key(self.settings.home), self.settings.public_url)
        return {"Authorization": f"Bearer {issuer.issue(subject, roles=roles, permissions=permissions)}"}

    async def call(
        self, method: str, args: Any = None, object_id: str = "counter:c", **options: Any
    ) -> httpx2.Response:
        body = {"method": method} if args is None else {"method": method, "args": args}
        return await self.http.post(f"/durable-objects/{object_id}/request", json=body, **options)

    async def answers(self, object_id: str) -> bool:
        return (await self.call("echo", object_id=object_id)).status_code == 200

    async def raw(self, request: bytes) -> bytes:
        """Send bytes that no HTTP library would send, and return what the server answers within one second."""
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(self.url).port)
        writer.write(request)
        answer = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while chunk := await reader.read(65536):
                    answer += chunk
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def gateway_world(servers: Servers, **settings: Any) -> AsyncIterator[World]:
    """Start the gateway, and announce the types `counter`, `account` and `basket`."""
    connection = await nats.connect(servers.nats_url("objects"), inbox_prefix="_INBOX_objects")
    host = FakeHost(connection)
    await host.start("counter", "account", "basket")
    configured = servers.settings(
        "gateway", **{"services": "objects", "default_deadline": 2.0, "attempt_timeout": 0.5, **settings}
    )
    async with _serving(configured) as url:
        world = World(url, configured, host)
        async with world.http, world.anonymous:
            yield world
    await host.leave()
    await connection.close()


@contextlib.asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(settings, Application(settings)))
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 2.0) -> None:
    """Wait until the condition holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def assert_problem(answer: httpx2.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Check that the answer is this problem document (RFC 9457), and return it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"], problem.get("field")) == (status, code, field)
    assert all(problem[member] for member in ("type", "title", "detail"))
    assert answer.headers["x-request-id"]
    return problem
