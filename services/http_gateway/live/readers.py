"""The open streams of this process, and the checks of their readers.

Promises: a reader whose credential is no longer valid, or has lost the permission, is disconnected within a second. The
number of streams, in total and per caller, never exceeds the settings.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any, NamedTuple

from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.observability.metrics import REFUSED_REQUESTS, SSE_READERS
from aidevos.security.permissions import Principal

from .endless_body import EndlessBody

CHECK_EVERY = 0.25
CHECK_WITHIN = 0.5
# Seconds after which a caller with too many streams may try again.
FULL_FOR = 5.0
_REFUSED = REFUSED_REQUESTS.labels("streams")


class StreamLimits(NamedTuple):
    """The largest number of streams in total and of one caller."""

    streams: int
    of_caller: int


class Readers:
    def __init__(self, admission: Admission, limits: StreamLimits) -> None:
        self._admission = admission
        self._limits = limits
        self._streams: set[EndlessBody] = set()
        self._of_caller: Counter[str] = Counter()
        self._present = asyncio.Event()
        SSE_READERS.read_from(self, lambda readers: {(): len(readers._streams)})

    def check_room(self, caller: str) -> None:
        """Raise `rate-limited` or `overloaded` if this caller may open no further stream now."""
        if self._of_caller[caller] >= self._limits.of_caller:
            _REFUSED.inc()
            raise Failure("rate-limited", "this caller has too many open streams", retry_after=FULL_FOR)
        if len(self._streams) >= self._limits.streams:
            _REFUSED.inc()
            raise Failure("overloaded", "too many streams are open in this gateway", retry_after=FULL_FOR)

    def add(self, stream: EndlessBody) -> None:
        """Count and check the stream until it is removed."""
        self._streams.add(stream)
        self._of_caller[stream.reader.caller.subject] += 1
        self._present.set()

    def remove(self, stream: EndlessBody) -> None:
        self._streams.remove(stream)
        self._of_caller[stream.reader.caller.subject] -= 1
        self._of_caller += Counter()

    async def keep_checking(self) -> None:
        """Check all readers again and again until cancelled."""
        while True:
            self._present.clear()
            if not self._streams:
                await self._present.wait()
            await asyncio.sleep(CHECK_EVERY)
            await self._check()

    async def _check(self) -> None:
        """Check every reader: it takes what it is sent, and its credential is still valid."""
        now = time.monotonic()
        readers: defaultdict[tuple[str, str], list[EndlessBody]] = defaultdict(list)
        for stream in self._streams:
            stream.check_progress(now)
            readers[stream.reader.authorization, stream.reader.address].append(stream)
        unknown: list[Coroutine[Any, Any, None]] = []
        for (authorization, address), streams in readers.items():
            try:
                _update_caller(streams, self._admission.authenticate(authorization, address))
            except NotReady:
                unknown.append(self._look_up(authorization, address, streams))
            except Failure as failure:
                _end(streams, failure)
        await asyncio.gather(*unknown)

    async def _look_up(self, authorization: str, address: str, streams: list[EndlessBody]) -> None:
        try:
            async with asyncio.timeout(CHECK_WITHIN):
                _update_caller(streams, await resolve_when_ready(self._admission.authenticate, authorization, address))
        except TimeoutError:
            _end(streams, Failure("unavailable", "the API key can't be looked up"))
        except Failure as failure:
            _end(streams, failure)


def _update_caller(streams: list[EndlessBody], caller: Principal) -> None:
    for stream in streams:
        stream.reader = stream.reader._replace(caller=caller)
        if not caller.has(stream.permission):
            stream.end("forbidden")


def _end(streams: list[EndlessBody], failure: Failure) -> None:
    for stream in streams:
        stream.end("unauthenticated" if failure.code == "unauthenticated" else "unavailable")
