"""The replay of a dead letter, beside it, so that the letter can be seen and deleted meanwhile.

Promises: each replay sends the letter's request once in effect: every attempt of it carries one request
ID, also a later replay's, whoever asks for that, when it isn't known whether an earlier one was applied. What a
service has sent is sent as that service. What a client has sent is sent with the rights of whoever replays
it, for that one call, and as they are then.
"""

from __future__ import annotations

import asyncio

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, services
from aidevos.contracts.dead_letters import TYPE
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.security.delegations import LIFETIME, Delegations, Errand, Mandate
from aidevos.security.mandates import mandate_of
from aidevos.security.tokens import TokenIssuer

from .dead_letter import Contents, Replayer

# Seconds that a replayed request may take; less than the tell that brings it about.
SEND_WITHIN = 8.0


class ReplayState(msgspec.Struct):
    """Nothing: the letter has it all."""


class ReplayDO(BaseDurableObject[ReplayState], type="replay", management="read_only", internal=True):
    """Sends the letter with its ID once more."""

    issuer: TokenIssuer = inject()
    delegations: Delegations = inject()

    @command(allow=services())
    async def send(self, number: int) -> None:
        """Send what the letter says, and tell the letter what came of it."""
        failure = await self._try(number)
        known = failure is None or not failure.is_passing
        code, detail = (failure.code, failure.detail) if failure else ("", "")
        self.tell(TYPE, self.id, "settle", number=number, code=code, detail=detail, known=known)
        await self.delete()

    async def _try(self, number: int) -> Failure | None:
        try:
            async with asyncio.timeout(SEND_WITHIN):
                said = await self.call(TYPE, self.id, "contents", number=number)
                await self._send(msgspec.convert(said, Contents))
        except TimeoutError:
            return Failure("unavailable", f"nobody has answered within {SEND_WITHIN:.0f} seconds")
        except Failure as failure:
            return failure
        return None

    async def _send(self, letter: Contents) -> None:
        request_id = f"{TELL_PREFIX}replay.{self.id}.{letter.sends}"
        if letter.replayer is None:
            token = self.issuer.issue(
                letter.sender, roles=("service",), permissions=tuple(letter.permissions), lifetime=LIFETIME
            )
            authorization = f"Bearer {token}"
        else:
            errand = Errand(letter.subject, letter.payload, request_id)
            authorization = self.delegations.authorization(await self._mandate(letter.replayer), errand)
        await self.forward(
            letter.subject,
            letter.payload,
            request_id=request_id,
            content_type=letter.content_type,
            authorization=authorization,
        )

    async def _mandate(self, who: Replayer) -> Mandate:
        if who.is_user:
            return await mandate_of(self.call, who.id, who.key)
        if who.until <= self.now:
            raise Failure("unauthenticated", "the rights with which this was to be replayed are too old")
        return Mandate(who.id, tuple(who.roles), permissions=tuple(who.permissions))
