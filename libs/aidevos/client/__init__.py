"""The client of a fleet for programs of any kind, over HTTP and NATS.

async with connect("http://127.0.0.1:8080", token=token) as client:
    await client.object(Counter, "clicks").increment(by=2)
"""

from aidevos.client.client import Client, connect
from aidevos.client.credentials import TokenSource
from aidevos.client.data import Collection, Item
from aidevos.client.entry import LiveEvent
from aidevos.client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    RateLimited,
    SecondFactorNeeded,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from aidevos.client.sync import SyncClient, connect_sync

__all__ = [
    "ApiError",
    "Client",
    "Collection",
    "Conflict",
    "Forbidden",
    "Invalid",
    "Item",
    "LiveEvent",
    "NotFound",
    "PreconditionFailed",
    "RateLimited",
    "SecondFactorNeeded",
    "SyncClient",
    "TokenSource",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "connect",
    "connect_sync",
]
