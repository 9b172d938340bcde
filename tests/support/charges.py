"""Rate limits that answer as a test prescribes."""

from __future__ import annotations

from typing import Any

from aidevos.contracts.rate_limits import DEFAULT
from aidevos.durable.access.limiter import RateLimited, Verdict
from aidevos.security.gcra import Policy
from aidevos.security.permissions import ANONYMOUS, Principal
from services.http_gateway.http.charges import Charges
from services.http_gateway.http.request import HttpRequest
from services.http_gateway.http.responses import RATE_LIMIT

POLICY = Policy(100, 1.0)


class ScriptedLimits:
    """Fake rate limits that refuse with these waits in seconds, one for each charge, and then admit everything."""

    def __init__(self, *waits: float) -> None:
        self.waits = list(waits)
        self.charged: list[int] = []

    def price_page(self, items: int) -> int:
        return items

    def spend_more(self, caller: Principal, address: str, group: str, cost: int) -> Verdict:
        if self.waits:
            raise RateLimited(Verdict(DEFAULT, POLICY, 0, self.waits.pop(0)))
        self.charged.append(cost)
        return Verdict(DEFAULT, POLICY, 7, 1.0, cost)


def charges_of(limits: ScriptedLimits) -> Charges:
    limiter: Any = limits
    return Charges(limiter)


def admitted_request(receive: Any = None) -> HttpRequest:
    """Return a request that its guard has charged as one request."""
    scope = {"path": "/data/c", "client": None, RATE_LIMIT: Verdict(DEFAULT, POLICY, 8, 1.0, 1)}
    return HttpRequest(scope, receive, {}, ANONYMOUS, {})
