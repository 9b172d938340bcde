"""Dead letters of tells without a valid credential, whose senders are unknown.

Promise: such a letter holds nothing that its sender wrote except the start of the subject. In one process, at most
`RATE` of them are stored in an hour. A metric counts the tells behind them all.
"""

from __future__ import annotations

import msgspec

from aidevos.contracts.dead_letters import Letter
from aidevos.observability.metrics import REFUSED_TELLS
from aidevos.security.gcra import Gcra, Policy

RATE = Policy(60, 3600.0)
SUBJECT_LIMIT = 200


class AnonymousLetters:
    """Decides which of these letters are stored."""

    def __init__(self) -> None:
        self._stored = Gcra(RATE)

    def strip(self, letter: Letter, now: float) -> Letter | None:
        """Return the letter without its message, or None if enough were stored lately. `now` is in seconds."""
        REFUSED_TELLS.inc()
        if not self._stored.take(now):
            return None
        subject = letter.subject[:SUBJECT_LIMIT]
        return msgspec.structs.replace(letter, subject=subject, payload=b"", content_type="", message_kept=False)
