"""Dead letters of tells without a valid credential, whose senders are unknown.

Promise: such a letter holds nothing that its sender wrote except the start of the subject. All hosts of a service
together store at most `RATE` of them in an hour, or one for each host. A metric counts the tells behind them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from aidevos.contracts.dead_letters import Letter
from aidevos.observability.metrics import REFUSED_TELLS
from aidevos.security.gcra import Gcra, Policy

RATE = Policy(60, 3600.0)
SUBJECT_LIMIT = 200


class AnonymousLetters:
    """Decides which of these letters are stored.

    `share` returns this host's share of a limit for all hosts of its service.
    """

    def __init__(self, share: Callable[[int], int]) -> None:
        self._share = share
        self._stored = Gcra(RATE)

    def strip(self, letter: Letter, now: float) -> Letter | None:
        """Return the letter without its message, or None if enough were stored lately. `now` is in seconds."""
        REFUSED_TELLS.inc()
        # A letter of one host among several costs what each of the others may store meanwhile.
        cost = math.ceil(RATE.rate / self._share(RATE.rate))
        if self._stored.remaining(now) < cost:
            return None
        self._stored.charge(now, cost)
        subject = letter.subject[:SUBJECT_LIMIT]
        return msgspec.structs.replace(letter, subject=subject, payload=b"", content_type="", message_kept=False)
