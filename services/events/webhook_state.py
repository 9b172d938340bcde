"""The stored state of a webhook, its search, and its public representation."""

from __future__ import annotations

import msgspec

from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.webhooks import MANAGE_WEBHOOKS, FindWebhooks, WebhookBody, WebhookInfo
from aidevos.queries import And, Compare, Condition, Find
from aidevos.security.permissions import Principal

AT = ("created_at",)


class WebhookState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    `secret` and `former` are encrypted; `former` is the secret before a rotation and signs until
    `former_until`. `key` is the API key that created the webhook. `made_by` is the ID of the request
    that made the secret.
    """

    owner: str = ""
    key: str = ""
    url: str = ""
    events: list[str] = []
    collections: list[str] = []
    projects: list[str] = []
    description: str = ""
    active: bool = True
    disabled_reason: str = ""
    failing_since: float | None = None
    secret: str = ""
    former: str = ""
    former_until: float = 0.0
    made_by: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0


class Target(msgspec.Struct, kw_only=True):
    """The data that a delivery needs: receiver, owner and encrypted secrets."""

    owner: str
    key: str
    url: str
    active: bool
    failing_since: float | None
    secrets: list[str]


def restrict(caller: Principal, args: FindWebhooks) -> FindWebhooks:
    """Return the search that the caller may make: over all webhooks, or only over its own."""
    if caller.is_service or caller.has(MANAGE_WEBHOOKS):
        return args
    return msgspec.structs.replace(args, owner=caller.subject)


def find(args: FindWebhooks) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = [] if args.owner is None else [Compare(("owner",), "eq", args.owner)]
    return Find(And(tuple(where)), args.limit, AT)


def show(id: str, state: WebhookState, version: int) -> WebhookInfo:
    """Return the webhook's public representation."""
    return WebhookInfo(
        id=id,
        owner=state.owner,
        key=state.key,
        url=state.url,
        events=state.events,
        collections=state.collections,
        projects=state.projects,
        description=state.description,
        active=state.active,
        disabled_reason=state.disabled_reason,
        failing_since=None if state.failing_since is None else rfc3339_of(state.failing_since),
        version=version,
        created_at=rfc3339_of(state.created_at),
        updated_at=rfc3339_of(state.updated_at),
    )


def body_of(state: WebhookState) -> WebhookBody:
    """Return the fields that a merge patch can change."""
    return WebhookBody(**{name: getattr(state, name) for name in WebhookBody.__struct_fields__})


# The parts of the search for webhooks.
FIND = (FindWebhooks, find, show, (AT, ("owner", *AT)), restrict)
