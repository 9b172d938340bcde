"""The floors that the product is measured against, as processes: `python -m tests.bench.floors <name>`.

`echo` only answers NATS requests. `http-echo` turns an HTTP request into one NATS request. `plain` is a service
written without the product: counters and items on Starlette and motor. `outbox` is the same with an event for each
write: it is stored in an outbox by the same transaction, published to JetStream and then removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import uvicorn
import uvloop
from motor.motor_asyncio import AsyncIOMotorClient
from nats.aio.msg import Msg
from pymongo import ReturnDocument, WriteConcern
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ECHO_SUBJECT = "bench.echo"
OUTBOX = "plain_outbox"


async def echo() -> None:
    connection = await nats.connect(os.environ["AIDEVOS_NATS_URL"])

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe(ECHO_SUBJECT, cb=answer)
    await asyncio.Event().wait()


def http_echo() -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.nats = await nats.connect(os.environ["AIDEVOS_NATS_URL"])
        yield
        await app.state.nats.close()

    async def ask(request: Request) -> Response:
        reply = await request.app.state.nats.request(ECHO_SUBJECT, await request.body(), timeout=10)
        return Response(reply.data, media_type="application/json")

    return Starlette(routes=[Route("/echo", ask, methods=["POST"])], lifespan=lifespan)


def plain() -> Starlette:
    """Serve counters and items; writes are as durable as the product's (majority, journaled)."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        client: Any = AsyncIOMotorClient(os.environ["AIDEVOS_MONGO_URL"])
        database = client.get_database(os.environ["AIDEVOS_MONGO_DATABASE"])
        durable = WriteConcern(w="majority", j=True)
        app.state.counters = database.get_collection("plain", write_concern=durable)
        app.state.items = database.get_collection("plain_items", write_concern=durable)
        await app.state.items.create_index([("price", 1), ("_id", 1)])
        yield
        client.close()

    async def increment(request: Request) -> Response:
        by = (await request.json())["by"]
        counter = await request.app.state.counters.find_one_and_update(
            {"_id": request.path_params["id"]},
            {"$inc": {"value": by}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return JSONResponse({"value": counter["value"]})

    async def value(request: Request) -> Response:
        counter = await request.app.state.counters.find_one({"_id": request.path_params["id"]})
        return JSONResponse({"value": counter["value"]})

    async def create(request: Request) -> Response:
        item = {"_id": secrets.token_hex(16), **await request.json()}
        await request.app.state.items.insert_one(item)
        return JSONResponse(item, 201)

    async def read(request: Request) -> Response:
        return JSONResponse(await request.app.state.items.find_one({"_id": request.path_params["id"]}))

    async def replace(request: Request) -> Response:
        item = await request.json()
        await request.app.state.items.replace_one({"_id": request.path_params["id"]}, item, upsert=True)
        return JSONResponse(item)

    async def search(request: Request) -> Response:
        low, limit = int(request.query_params["from"]), int(request.query_params["limit"])
        found = request.app.state.items.find({"price": {"$gte": low}}).sort([("price", 1), ("_id", 1)]).limit(limit)
        return JSONResponse({"items": await found.to_list(limit)})

    counter, item = "/counters/{id}", "/items/{id}"
    routes = [
        Route(counter, increment, methods=["POST"]),
        Route(counter, value, methods=["GET"]),
        Route("/items", create, methods=["POST"]),
        Route("/items", search, methods=["GET"]),
        Route(item, read, methods=["GET"]),
        Route(item, replace, methods=["PUT"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def outbox() -> Starlette:
    """Serve the writes of `plain`, each with an event that is published at least once."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.nats = await nats.connect(os.environ["AIDEVOS_NATS_URL"])
        app.state.stream = app.state.nats.jetstream()
        app.state.client = AsyncIOMotorClient(os.environ["AIDEVOS_MONGO_URL"])
        app.state.database = app.state.client.get_database(
            os.environ["AIDEVOS_MONGO_DATABASE"], write_concern=WriteConcern(w="majority", j=True)
        )
        for name in (OUTBOX, "outbox_counters", "outbox_items"):
            await app.state.database.drop_collection(name)
            await app.state.database.create_collection(name)
        yield
        app.state.client.close()
        await app.state.nats.close()

    async def write(app: Starlette, kind: str, change: Callable[[Any], Awaitable[Any]]) -> Any:
        """Make a change and its event in one transaction, and publish the event."""

        async def both(session: Any) -> tuple[Any, dict[str, Any]]:
            made = await change(session)
            event = {"_id": secrets.token_hex(16), "subject": f"event.plain.{kind}.changed", "data": made}
            await app.state.database[OUTBOX].insert_one(event, session=session)
            return made, event

        async with await app.state.client.start_session() as session:
            made, event = await session.with_transaction(both, write_concern=WriteConcern(w="majority", j=True))
        headers = {"Nats-Msg-Id": event["_id"]}
        await app.state.stream.publish(event["subject"], json.dumps(event["data"]).encode(), headers=headers)
        await app.state.database[OUTBOX].delete_one({"_id": event["_id"]})
        return made

    async def increment(request: Request) -> Response:
        by, counters = (await request.json())["by"], request.app.state.database["outbox_counters"]

        async def change(session: Any) -> Any:
            wanted, update = {"_id": request.path_params["id"]}, {"$inc": {"value": by}}
            after = ReturnDocument.AFTER
            return await counters.find_one_and_update(
                wanted, update, upsert=True, return_document=after, session=session
            )

        return JSONResponse({"value": (await write(request.app, "counter", change))["value"]})

    async def create(request: Request) -> Response:
        item = {"_id": secrets.token_hex(16), **await request.json()}

        async def change(session: Any) -> Any:
            await request.app.state.database["outbox_items"].insert_one(item, session=session)
            return item

        return JSONResponse(await write(request.app, "item", change), 201)

    async def replace(request: Request) -> Response:
        item, wanted = await request.json(), {"_id": request.path_params["id"]}

        async def change(session: Any) -> Any:
            await request.app.state.database["outbox_items"].replace_one(wanted, item, upsert=True, session=session)
            return item

        return JSONResponse(await write(request.app, "item", change))

    routes = [
        Route("/counters/{id}", increment, methods=["POST"]),
        Route("/items", create, methods=["POST"]),
        Route("/items/{id}", replace, methods=["PUT"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main(name: str) -> None:
    if name == "echo":
        uvloop.run(echo())
        return
    app = {"http-echo": http_echo, "plain": plain, "outbox": outbox}[name]()
    port = int(os.environ["AIDEVOS_PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1])
