"""Events for others: following them, who may see which, and sending them as webhooks.

A process subscribes to its `EventBus`, which hands over each event as a `Delivery`, or follows an `EventStream`. A
`Mirror` keeps a copy of committed state in step with it, read by `read_all`. `FOLLOWING` spaces the attempts of loops
that follow something. `bury` makes a dead letter of what can't
be delivered.
"""

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.port import Delivery, EventBus
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.durable.delivery.dead_letters import bury

__all__ = ["FOLLOWING", "Delivery", "EventBus", "EventStream", "Mirror", "bury", "read_all"]
