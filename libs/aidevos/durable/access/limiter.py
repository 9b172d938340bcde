"""Rate limits, as every gateway and every host keeps them.

Promises: all processes together let no caller through more often than its policy says, since each
spends what the caller's `quota` object has given it beforehand, in slices of a hundredth of the burst;
so at most that much of it lies unused in a process. While requests flow, the next slice is fetched
before the last one is spent, and no request waits. While quotas don't answer, requests pass at once,
and a metric counts them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from aidevos.contracts import rate_limits as contract
from aidevos.contracts import subjects
from aidevos.contracts.api_keys import RateLimit
from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import ANONYMOUS, DEFAULT, LimitPolicy
from aidevos.durable.access.resolving import NotReady
from aidevos.durable.client.client import DurableObjectClient
from aidevos.observability.metrics import UNLIMITED_REQUESTS
from aidevos.security.gcra import Policy
from aidevos.security.permissions import Principal
from aidevos.settings import Settings

log = logging.getLogger(__name__)
SLICES = 100
MAX_BUCKETS = 50_000
# The limit that an API key has of its own, beside the policies: it can only be narrower.
KEY = "key"
FETCH_WITHIN = 1.0
# Seconds between two questions to quotas that don't answer.
ASK_AGAIN_AFTER = 1.0
_taken = msgspec.json.Decoder(contract.Taken)


class Verdict(NamedTuple):
    """How much of a policy is left to a caller: `remaining` requests, all of them in `reset` seconds."""

    name: str
    policy: Policy
    remaining: int
    reset: float

    def headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)."""
        quota, window = self.policy.capacity, math.ceil(self.policy.capacity * self.policy.interval)
        return (
            (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (self.name.encode(), quota, window)),
            (b"ratelimit", b'"%s";r=%d;t=%d' % (self.name.encode(), self.remaining, math.ceil(self.reset))),
        )


class Limited(Failure):
    """One request too many."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(
            "rate-limited", f"the limit {verdict.name!r} is reached", retry_after=max(verdict.reset, 0.001)
        )
        self.verdict = verdict


class _Bucket:
    """What this process may spend for one caller, and what it knows of the rest."""

    __slots__ = ("empty_until", "fetching", "left", "remaining", "reset_at")

    def __init__(self) -> None:
        self.left = 0
        self.remaining = 0
        self.reset_at = 0.0
        self.empty_until = 0.0
        self.fetching: asyncio.Task[None] | None = None


class RateLimiter:
    """`client` calls as a service, with this credential; `now` is any clock, in seconds."""

    def __init__(
        self,
        settings: Settings,
        client: DurableObjectClient,
        credential: Callable[[], str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._client = client
        self._credential = credential
        self._now = now
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._away = False
        self._ask_at = 0.0
        self.set_policies({})

    def set_policies(self, policies: dict[str, LimitPolicy]) -> None:
        """Take the policies that count from now on."""
        usual = Policy(self._settings.rate_limit, 1.0, self._settings.rate_burst)
        made = {name: Policy(each.rate, each.window, each.burst or each.rate) for name, each in policies.items()}
        self._policies = {DEFAULT: usual, ANONYMOUS: usual} | made
        self._groups = {group: name for name, each in policies.items() for group in each.applies_to}

    def spend(self, caller: Principal, address: str, group: str) -> Verdict:
        """Spend one request. A `group` is the first part of a path, or a type. Raises `Limited`, and `NotReady` when
        the quota has to be asked."""
        name, policy, who = self._find(caller, address, group)
        if caller.limits is None:
            return self._spend(name, policy, who)
        own = _own(caller.limits)
        self._check_room(KEY, own, who)
        self._spend(name, policy, who)
        return self._spend(KEY, own, who)

    def spend_on(self, name: str, limit: RateLimit, caller: Principal) -> Verdict:
        """Spend one request from a limit of this name, which is beside the policies; raises like `spend`."""
        return self._spend(name, _own(limit), caller.key or caller.subject)

    def _find(self, caller: Principal, address: str, group: str) -> tuple[str, Policy, str]:
        name = self._groups.get(group) if self._groups else None
        name = name or (DEFAULT if caller.subject else ANONYMOUS)
        return name, self._policies[name], caller.key or caller.subject or f"address {address}"

    def _bucket(self, name: str, who: str) -> _Bucket:
        key = (name, who)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _check_room(self, name: str, policy: Policy, who: str) -> _Bucket:
        """The bucket, from which a request may be spent now."""
        bucket = self._bucket(name, who)
        if not (bucket.left or self._away):
            wait = bucket.empty_until - self._now()
            if wait > 0:
                raise Limited(Verdict(name, policy, 0, wait))
            raise NotReady(self._fetch(bucket, name, policy, who))
        return bucket

    def _spend(self, name: str, policy: Policy, who: str) -> Verdict:
        bucket, now = self._check_room(name, policy, who), self._now()
        if not bucket.left:
            UNLIMITED_REQUESTS.inc()
            if now >= self._ask_at:
                self._ask_at = now + ASK_AGAIN_AFTER
                self._fetch(bucket, name, policy, who)
            return Verdict(name, policy, policy.capacity, 0.0)
        bucket.left -= 1
        if bucket.left < _slice(policy) // 2 and bucket.fetching is None and now >= bucket.empty_until:
            self._fetch(bucket, name, policy, who)
        return Verdict(name, policy, bucket.left + bucket.remaining, max(0.0, bucket.reset_at - now))

    def _fetch(self, bucket: _Bucket, name: str, policy: Policy, who: str) -> asyncio.Task[None]:
        if bucket.fetching is None:
            bucket.fetching = asyncio.get_running_loop().create_task(self._ask(bucket, name, policy, who))
            self._tasks.add(bucket.fetching)
            bucket.fetching.add_done_callback(self._tasks.discard)
        return bucket.fetching

    async def _ask(self, bucket: _Bucket, name: str, policy: Policy, who: str) -> None:
        quota = subjects.id_from_name(contract.QUOTA_TYPE, f"{name} {who}")
        asked = {"wanted": _slice(policy), "rate": policy.rate, "window": policy.window, "burst": policy.capacity}
        subject = subjects.call(contract.QUOTA_TYPE, quota, "take")
        try:
            reply = await self._client.request(
                subject, msgspec.json.encode(asked), authorization=self._credential(), deadline=FETCH_WITHIN
            )
        except Failure as failure:
            if not self._away:
                log.warning("rate limits can't be asked, requests pass: %s", failure)
            self._away, self._ask_at = True, self._now() + ASK_AGAIN_AFTER
        else:
            now, taken = self._now(), _taken.decode(reply)
            bucket.left += taken.taken
            bucket.remaining, bucket.reset_at = taken.remaining, now + taken.reset
            bucket.empty_until = now + taken.retry
            self._away = False
        finally:
            bucket.fetching = None


def _own(limit: RateLimit) -> Policy:
    return Policy(limit.rate, limit.window)


def _slice(policy: Policy) -> int:
    return max(1, policy.capacity // SLICES)
