"""A worker process with slow handlers that log what they do."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from aidevos import TaskContext, task
from aidevos.process.serving import run
from aidevos.settings import load
from aidevos.work.handlers import handlers_in
from aidevos.work.process import worker_service


class Slow(msgspec.Struct):
    """Runs for `seconds`; `log` is a file that gets one line at the start, and another if the task is stopped."""

    log: str
    seconds: float = 0.0
    name: str = ""


def note(payload: Slow, line: str) -> None:
    with open(payload.log, "a") as log:
        log.write(f"{payload.name} {line}\n")


@task("slow")
async def slow(context: TaskContext, payload: Slow) -> dict[str, Any]:
    note(payload, "begun")
    try:
        await context.progress(0.5)
        await asyncio.sleep(payload.seconds)
    except asyncio.CancelledError:
        note(payload, f"stopped {context.cancelled}")
        raise
    return {"attempt": context.attempt}


@task("fails")
async def fails(context: TaskContext, payload: Slow) -> str:
    if context.attempt < 3:
        raise RuntimeError(f"attempt {context.attempt} fails on purpose")
    return "at last"


if __name__ == "__main__":
    service = worker_service(handlers_in([sys.modules["__main__"]]), group="workers-slow")
    run(service, load(), reports_health=False)
