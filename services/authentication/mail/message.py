"""A mail on its way: one object for each, which ends when it was sent.

Promise: a mail leaves after the commit that wanted it, at least once, under one Message-ID. It is
filled by a tell, so while the mail server is away the relay repeats it with growing pauses, and what
is never taken, or of no use any more, ends as a dead letter. The token in a link is derived here and
stands nowhere else: not in the tell, not in a document, not in a log.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, services
from aidevos.contracts.confirmation import MAIL_TYPE, Letter
from aidevos.settings import Settings

from ..links import Links
from .letters import compose
from .port import Outgoing


class MailState(msgspec.Struct):
    """Nothing is kept."""


class MailDO(BaseDurableObject[MailState], type=MAIL_TYPE, management="read_only", internal=True):
    """A mail on its way."""

    settings: Settings = inject()
    tokens: Links = inject()
    outgoing: Outgoing = inject()

    @command(allow=services())
    async def send(self, letter: Letter) -> None:
        """Hand the mail to the mail server. Raises `unavailable` while that is away."""
        if letter.until <= self.now:
            raise Failure("conflict", "the mail was not sent in time")
        token = self.tokens.token(letter.user, letter.nonce) if letter.nonce else ""
        settings = self.settings
        message = compose(letter, self.id, settings.mail_from, settings.public_url, token, self.now)
        await self.outgoing.send(self.id, message)
        await self.delete()
