"""The objects of a list that are in memory, in whichever host of the service has them.

Promise: an answer takes at most `WITHIN` seconds longer than it would without other hosts. The objects of a host that
doesn't answer in time count as hibernated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.durable.hosting.reception import answer_requests
from aidevos.durable.ownership.catalogue import Catalogue

log = logging.getLogger(__name__)
WITHIN = 0.3


class _Question(msgspec.Struct):
    """IDs of objects of one type. The answer is a list of those that are in memory."""

    type: str
    ids: list[str]


_question = msgspec.json.Decoder(_Question)
_answer = msgspec.json.Decoder(list[str])


class Activity:
    """Asks the hosts of one service, and answers for one incarnation of them.

    `owner_of` returns the incarnation that owns an object of a type and ID, or an empty string.
    """

    def __init__(
        self,
        connection: Client,
        catalogue: Catalogue,
        *,
        service: str,
        incarnation: str,
        owner_of: Callable[[str, str], str],
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._service = service
        self._incarnation = incarnation
        self._owner_of = owner_of
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Answer other hosts until stopped."""
        subject = subjects.active(self._service, self._incarnation)
        self._subscription = await answer_requests(self._connection, subject, self._on_question)

    async def stop(self) -> None:
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()

    async def find_active(self, type: str, ids: Iterable[str]) -> set[str]:
        """Return those of these objects that are in memory."""
        by_owner: defaultdict[str, list[str]] = defaultdict(list)
        for id in ids:
            by_owner[self._owner_of(type, id)].append(id)
        by_owner.pop("", None)
        own = self._catalogue.select_active(type, by_owner.pop(self._incarnation, ()))
        others = await asyncio.gather(*(self._ask(owner, type, asked) for owner, asked in by_owner.items()))
        return own.union(*others)

    async def _ask(self, owner: str, type: str, ids: list[str]) -> set[str]:
        subject, question = subjects.active(self._service, owner), msgspec.json.encode(_Question(type, ids))
        try:
            answer = await self._connection.request(subject, question, timeout=WITHIN)
            return set(_answer.decode(answer.data))
        except (NatsError, msgspec.DecodeError) as error:
            log.info("%s did not say which objects it has in memory: %r", owner, error)
            return set()

    async def _on_question(self, message: Msg) -> None:
        try:
            question = _question.decode(message.data)
        except msgspec.DecodeError as error:
            log.warning("a question on %s can't be read: %s", message.subject, error)
            return
        active = sorted(self._catalogue.select_active(question.type, question.ids))
        await self._connection.publish(message.reply, msgspec.json.encode(active))
