"""Event feeds: following events, deciding who may see them, and sending them as webhooks.

A process subscribes to its `EventBus`, which hands over each event as a `Delivery`, or follows an `EventStream`. A
`Mirror` keeps a copy of committed states up to date; `read_all` fills it. `FOLLOWING` is the backoff of loops that
follow a feed. `bury` turns an undeliverable event into a dead letter. A `Batcher` combines what comes while it is busy.
`describe_event` names the span in which an event is handled.
"""

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.bus.delivering import describe_event
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.port import Delivery, EventBus
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.durable.delivery.dead_letters import bury

__all__ = [
    "FOLLOWING",
    "Batcher",
    "Delivery",
    "EventBus",
    "EventStream",
    "Mirror",
    "bury",
    "describe_event",
    "read_all",
]
