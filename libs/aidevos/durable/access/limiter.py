"""Rate limits, as applied by every gateway and every host.

Promise: all processes together admit no more requests of a caller than its policy allows. Each process spends only what
the caller's `quota` object has granted it, in slices of a hundredth of the burst. So at most one slice lies unused in a
process. Under steady traffic the next slice is fetched before the current one is spent, and no request waits. While
quotas are unreachable, requests are admitted at once and counted by a metric.

A request costs as much as its work, counted in requests. It is admitted if one request is left, and its whole cost is
charged. So a request that costs more than is left, or even more than the burst, overdraws the limit, and nothing else
is admitted until time has made up for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from aidevos.contracts import rate_limits as contract
from aidevos.contracts import subjects
from aidevos.contracts.api_keys import KeyLimit, RateLimit
from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import ANONYMOUS, DEFAULT, LimitPolicy
from aidevos.durable.access.resolving import NotReady
from aidevos.durable.client.client import DurableObjectClient
from aidevos.observability.metrics import REFUSED_REQUESTS, UNLIMITED_REQUESTS
from aidevos.security.gcra import Policy
from aidevos.security.permissions import Principal
from aidevos.settings import Settings

log = logging.getLogger(__name__)
SLICES = 100
MAX_BUCKETS = 50_000
# The name of an API key's own limit. It applies in addition to the policies, so it can only narrow them.
KEY = "key"
# The names of the own limits of declared routes begin so, and go on with the route's ID. Metrics name none of them.
ROUTE = "route"
FETCH_TIMEOUT = 1.0
# Seconds between two attempts to reach quotas that don't answer.
RETRY_INTERVAL = 1.0
_taken = msgspec.json.Decoder(contract.QuotaSlice)


class Verdict(NamedTuple):
    """The state of a caller's limit: `remaining` requests now, and the full burst again in `reset` seconds.

    `cost` is the number of requests that were charged; 0 if the request was refused.
    """

    name: str
    policy: Policy
    remaining: int
    reset: float
    cost: int = 0

    def headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Return the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

        The parameter `cost` isn't in the draft, which tells clients to ignore parameters that they don't know.
        """
        state = self.name.encode(), self.remaining, math.ceil(self.reset), self.cost
        return _policy_header(self.name, self.policy), (b"ratelimit", b'"%s";r=%d;t=%d;cost=%d' % state)


@lru_cache(maxsize=1000)
def _policy_header(name: str, policy: Policy) -> tuple[bytes, bytes]:
    window = math.ceil(policy.capacity * policy.interval)
    return b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name.encode(), policy.capacity, window)


class RateLimited(Failure):
    """Raised when a caller exceeds its rate limit."""

    def __init__(self, verdict: Verdict) -> None:
        wait = max(math.ceil(verdict.reset * 1000), 1) / 1000
        super().__init__("rate-limited", f"the limit {verdict.name!r} is reached", retry_after=wait)
        self.verdict = verdict


class _Bucket:
    """The slice that this process may still spend for one caller, and the last known state of the caller's quota.

    `left` is negative as long as the quota doesn't know what was overdrawn here.
    """

    __slots__ = ("empty_until", "fetching", "left", "remaining", "reset_at")

    def __init__(self) -> None:
        self.left = 0
        self.remaining = 0
        self.reset_at = 0.0
        self.empty_until = 0.0
        self.fetching: asyncio.Task[None] | None = None


class _Charge(NamedTuple):
    """The cost of a request, or the rest of the cost of a request that was `admitted`."""

    cost: int
    admitted: bool = False

    def fits(self, bucket: _Bucket) -> bool:
        return bucket.left + bucket.remaining >= 0 if self.admitted else bucket.left > 0


class RateLimiter:
    """The rate limits of one process.

    `client` calls the quotas with the service's `credential`. `now` is any steady clock, in seconds.
    """

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
        self._quotas_unreachable = False
        self._retry_at = 0.0
        self.set_policies({})

    def set_policies(self, policies: dict[str, LimitPolicy]) -> None:
        """Replace the policies. The defaults come from the settings."""
        default = Policy(self._settings.rate_limit, 1.0, self._settings.rate_burst)
        declared = {name: Policy(each.rate, each.window, each.burst or each.rate) for name, each in policies.items()}
        self._policies = {DEFAULT: default, ANONYMOUS: default} | declared
        self._groups = {group: name for name, each in policies.items() for group in each.applies_to}

    def price_page(self, items: int) -> int:
        """Return the cost of a request that reads this many items."""
        return max(1, math.ceil(items / self._settings.rate_items))

    def spend(self, caller: Principal, address: str, group: str, cost: int = 1) -> Verdict:
        """Admit a request of this cost, and return what is left.

        `group` is the first segment of an HTTP path, or an object type. Raises `RateLimited`, or `NotReady` if the
        quota has to be asked first.
        """
        return self._spend_from_all(caller, address, group, _Charge(cost))

    def spend_more(self, caller: Principal, address: str, group: str, cost: int) -> Verdict:
        """Charge the rest of an admitted request's cost, which may use up the limit and overdraw it.

        Raises like `spend` while the limit is overdrawn already.
        """
        return self._spend_from_all(caller, address, group, _Charge(cost, admitted=True))

    def spend_on(self, name: str, limit: RateLimit, caller: Principal, address: str) -> Verdict:
        """Spend one request from a named limit that is separate from the policies. Raises like `spend`."""
        return self._spend(_Charge(1), name, _policy_of(limit), _spender(caller, address))

    def _spend_from_all(self, caller: Principal, address: str, group: str, charge: _Charge) -> Verdict:
        name, policy, spender = self._select_policy(caller, address, group)
        if caller.limits is None and not caller.parent_limits:
            return self._spend(charge, name, policy, spender)
        key_limits = _key_limits(caller)
        for limit in key_limits:
            self._require_room(charge, *limit)
        self._spend(charge, name, policy, spender)
        return min((self._spend(charge, *limit) for limit in key_limits), key=lambda verdict: verdict.remaining)

    def _select_policy(self, caller: Principal, address: str, group: str) -> tuple[str, Policy, str]:
        name = self._groups.get(group) if self._groups else None
        name = name or (DEFAULT if caller.subject else ANONYMOUS)
        return name, self._policies[name], _spender(caller, address)

    def _bucket_of(self, name: str, spender: str) -> _Bucket:
        key = (name, spender)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _require_room(self, charge: _Charge, name: str, policy: Policy, spender: str) -> _Bucket:
        """Return the bucket if it may be charged now. Raises like `spend`."""
        bucket = self._bucket_of(name, spender)
        if not (charge.fits(bucket) or self._quotas_unreachable):
            wait = bucket.empty_until - self._now()
            if wait > 0:
                REFUSED_REQUESTS.labels(ROUTE if name.startswith(f"{ROUTE}-") else name).inc()
                raise RateLimited(Verdict(name, policy, 0, wait))
            raise NotReady(self._fetch(bucket, name, policy, spender))
        return bucket

    def _spend(self, charge: _Charge, name: str, policy: Policy, spender: str) -> Verdict:
        bucket, now = self._require_room(charge, name, policy, spender), self._now()
        if bucket.left <= 0 and self._quotas_unreachable:
            UNLIMITED_REQUESTS.inc()
            if now >= self._retry_at:
                self._retry_at = now + RETRY_INTERVAL
                self._fetch(bucket, name, policy, spender)
            return Verdict(name, policy, policy.capacity, 0.0, charge.cost)
        bucket.left -= charge.cost
        is_low = bucket.left < _slice_size(policy) // 2 and now >= bucket.empty_until
        if (is_low or bucket.left < 0) and bucket.fetching is None:
            self._fetch(bucket, name, policy, spender)
        remaining = max(0, bucket.left + bucket.remaining)
        return Verdict(name, policy, remaining, max(0.0, bucket.reset_at - now), charge.cost)

    def _fetch(self, bucket: _Bucket, name: str, policy: Policy, spender: str) -> asyncio.Task[None]:
        if bucket.fetching is None:
            bucket.fetching = asyncio.get_running_loop().create_task(self._refill(bucket, name, policy, spender))
            self._tasks.add(bucket.fetching)
            bucket.fetching.add_done_callback(self._tasks.discard)
        return bucket.fetching

    async def _refill(self, bucket: _Bucket, name: str, policy: Policy, spender: str) -> None:
        """Take a slice. What is overdrawn is paid at once, while time still makes up for it."""
        try:
            await self._take_slice(bucket, name, policy, spender)
            while bucket.left < 0 and not self._quotas_unreachable:
                await self._take_slice(bucket, name, policy, spender)
        finally:
            bucket.fetching = None

    async def _take_slice(self, bucket: _Bucket, name: str, policy: Policy, spender: str) -> None:
        quota = contract.quota_id(name, spender)
        overdrawn = max(0, -bucket.left)
        arguments = contract.TakeArgs(
            wanted=_slice_size(policy),
            rate=policy.rate,
            window=policy.window,
            burst=policy.capacity,
            overdrawn=overdrawn,
        )
        subject = subjects.call(contract.QUOTA_TYPE, quota, "take")
        try:
            reply = await self._client.request(
                subject, msgspec.json.encode(arguments), authorization=self._credential(), deadline=FETCH_TIMEOUT
            )
        except Failure as failure:
            if not self._quotas_unreachable:
                log.warning("quotas are unreachable, requests pass without a limit: %s", failure)
            self._quotas_unreachable, self._retry_at = True, self._now() + RETRY_INTERVAL
        else:
            now, taken = self._now(), _taken.decode(reply)
            bucket.left += overdrawn + taken.taken
            bucket.remaining, bucket.reset_at = taken.remaining, now + taken.reset
            bucket.empty_until = now + taken.retry
            self._quotas_unreachable = False


def _spender(caller: Principal, address: str) -> str:
    return caller.key or caller.subject or contract.address_spender(address)


def _key_limits(caller: Principal) -> list[tuple[str, Policy, str]]:
    """Return the name, policy and spender of each limit of the caller's key and of the keys that made it."""
    own = () if caller.limits is None else (KeyLimit(caller.key, caller.limits),)
    return [(KEY, _policy_of(each.limit), each.key) for each in (*own, *caller.parent_limits)]


def _policy_of(limit: RateLimit) -> Policy:
    return Policy(limit.rate, limit.window)


@lru_cache(maxsize=1000)
def _slice_size(policy: Policy) -> int:
    return max(1, policy.capacity // SLICES)
