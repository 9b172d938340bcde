"""A mail to be sent: one object per mail, which is deleted once the mail is sent.

Promise: a mail leaves after the commit that requested it, at least once, under one Message-ID. The
request is a tell, so the relay retries it with growing pauses while the mail server is down. A mail
that the server never accepts, or that has expired, ends as a dead letter. The token in a link is
derived here and appears nowhere else: in no tell, no document and no log.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, services
from aidevos.contracts.confirmation import MAIL_TYPE, Letter
from aidevos.settings import Settings

from ..links import LinkTokens
from .letters import compose
from .port import SingleFlightMailer


class MailState(msgspec.Struct):
    """An empty state."""


class MailDO(BaseDurableObject[MailState], type=MAIL_TYPE, management="read_only", internal=True):
    """A mail to be sent."""

    settings: Settings = inject()
    tokens: LinkTokens = inject()
    mailer: SingleFlightMailer = inject()

    @command(allow=services())
    async def send(self, letter: Letter) -> None:
        """Hand the mail to the mail server.

        Raises `unavailable` while the server is down, and `conflict` once the mail has expired.
        """
        if letter.until <= self.now:
            raise Failure("conflict", "the mail expired before it could be sent")
        token = self.tokens.derive(letter.user, letter.nonce) if letter.nonce else ""
        settings = self.settings
        message = compose(letter, self.id, settings.mail_from, settings.public_url, token, self.now)
        await self.mailer.send(self.id, message)
        await self.delete()
