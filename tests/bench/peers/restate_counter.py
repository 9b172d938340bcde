"""A counter on Restate, run by hypercorn in the peers' own environment."""

import restate

counter = restate.VirtualObject("Counter")


@counter.handler()
async def increment(ctx: restate.ObjectContext, body: dict) -> int:
    value = (await ctx.get("value") or 0) + body["by"]
    ctx.set("value", value)
    return value


@counter.handler(kind="shared")
async def value(ctx: restate.ObjectSharedContext) -> int:
    return await ctx.get("value") or 0


app = restate.app([counter])
