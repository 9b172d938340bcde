"""The bounds of an API key, and how they bound the keys that it makes.

Promise: a key that another one has made never allows more than that one does at the time of use. What
`check_within` admits is a narrowing in every respect.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from aidevos.contracts.api_keys import KeyGrant, KeyLimit, RateLimit
from aidevos.contracts.errors import Failure
from aidevos.security import scopes

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Bounds(NamedTuple):
    """The bounds of a key: what it allows, how often, until when, and from which networks."""

    scopes: list[str]
    limits: RateLimit | None
    expires_at: float | None
    addresses: list[str]


def bounds_of(grant: KeyGrant) -> Bounds:
    """Return the bounds of a grant."""
    return Bounds(grant.scopes, grant.limits, grant.expires_at, grant.allowed_addresses)


def check_within(inner: Bounds, outer: Bounds, field: str) -> None:
    """Raise `forbidden`, which names what is wider, if the inner bounds are not within the outer ones."""
    within = {
        "scopes": all(scopes.covers(outer.scopes, scope) for scope in inner.scopes),
        "limits": _is_within(inner.limits, outer.limits),
        "expires_at": _earlier(inner.expires_at, outer.expires_at) == inner.expires_at,
        "allowed_addresses": _are_inside(inner.addresses, outer.addresses),
    }
    for name, is_within in within.items():
        if not is_within:
            raise Failure("forbidden", f"an API key can't widen its own {name}", field=f"{field}.{name}")


def inherit(grant: KeyGrant, parent: KeyGrant) -> KeyGrant | None:
    """Return the grant of a key within that of the key that made it, or None if the key can't be used anywhere."""
    addresses = _share(grant.allowed_addresses, parent.allowed_addresses)
    if not addresses and (grant.allowed_addresses or parent.allowed_addresses):
        return None
    own_limit = [] if parent.limits is None else [KeyLimit(parent.id, parent.limits)]
    return msgspec.structs.replace(
        grant,
        scopes=scopes.intersect(grant.scopes, parent.scopes),
        expires_at=_earlier(grant.expires_at, parent.expires_at),
        allowed_addresses=addresses,
        parents=[parent.id, *parent.parents],
        parent_limits=own_limit + parent.parent_limits,
    )


def _is_within(limit: RateLimit | None, outer: RateLimit | None) -> bool:
    """True if a limit admits no larger burst and no more requests in the long run than another one."""
    if limit is None or outer is None:
        return outer is None
    return limit.rate <= outer.rate and limit.rate * outer.window <= outer.rate * limit.window


def _earlier(expires_at: float | None, other: float | None) -> float | None:
    return min((each for each in (expires_at, other) if each is not None), default=None)


def _are_inside(addresses: list[str], outer: list[str]) -> bool:
    if not (addresses and outer):
        return not outer
    return all(each in _share([each], outer) for each in addresses)


def _share(addresses: list[str], others: list[str]) -> list[str]:
    """Return the networks that are in both lists, of which an empty one means any."""
    if not (addresses and others):
        return addresses or others
    pairs = itertools.product(map(ipaddress.ip_network, addresses), map(ipaddress.ip_network, others))
    return list(dict.fromkeys(str(max(pair, key=_prefix)) for pair in pairs if _overlap(*pair)))


def _overlap(network: Network, other: Network) -> bool:
    return network.version == other.version and network.overlaps(other)


def _prefix(network: Network) -> int:
    return network.prefixlen


def to_networks(addresses: Iterable[str], field: str) -> list[str]:
    """Return addresses and networks in their canonical form. Raises `invalid`."""
    found = []
    for number, text in enumerate(addresses):
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise Failure("invalid", str(error), field=f"{field}[{number}]") from None
    return found
