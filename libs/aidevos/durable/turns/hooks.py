"""The hooks of an object's author that run when an object comes into memory or leaves it."""

from __future__ import annotations

import asyncio
import logging

from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.running import using_state
from aidevos.durable.turns.activation import Activation

log = logging.getLogger(__name__)
HOOK_WITHIN = 10.0


def has_on_activate(activation: Activation) -> bool:
    return type(activation.object).on_activate is not BaseDurableObject.on_activate


async def call_on_activate(activation: Activation) -> None:
    if not has_on_activate(activation):
        return
    with using_state(activation.object):
        async with asyncio.timeout(HOOK_WITHIN):
            await activation.object.on_activate()
    activation.restore(activation.snapshot)


def has_on_hibernate(activation: Activation) -> bool:
    return type(activation.object).on_hibernate is not BaseDurableObject.on_hibernate


async def call_on_hibernate(activation: Activation) -> None:
    """Run the hook of an object that has left memory. A call meanwhile creates a new activation."""
    try:
        activation.rouse()
        with using_state(activation.object):
            async with asyncio.timeout(HOOK_WITHIN):
                await activation.object.on_hibernate()
    except Exception:
        log.exception("%s: on_hibernate failed", activation.object_id, extra=activation.log_fields)
