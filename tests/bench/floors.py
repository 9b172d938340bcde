"""The floors that the product is measured against, as processes: `python -m tests.bench.floors <name>`.

`echo` only answers NATS requests. `http-echo` turns an HTTP request into one NATS request. `plain` is a service
written without the product: counters and items on Starlette and motor.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
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


def main(name: str) -> None:
    if name == "echo":
        uvloop.run(echo())
        return
    app = {"http-echo": http_echo, "plain": plain}[name]()
    port = int(os.environ["AIDEVOS_PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1])
