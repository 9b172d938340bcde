"""What a webhook keeps, how it is found, and how it is shown."""

from __future__ import annotations

import msgspec

from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.webhooks import MANAGE_WEBHOOKS, FindWebhooks, WebhookBody, WebhookInfo
from aidevos.queries import And, Compare, Condition, Find
from aidevos.security.permissions import Principal

AT = ("created_at",)


class WebhookState(msgspec.Struct):
    """`secret` and `former`, the one before a rotation, which signs until `former_until`, are encrypted; `key` is the
    API key that has made the webhook. `made_by` is the request that made the secret. Times are in seconds since
    the epoch."""

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
    """Where deliveries go, on whose behalf, and with which secrets, encrypted."""

    owner: str
    key: str
    url: str
    active: bool
    failing_since: float | None
    secrets: list[str]


def restrict(caller: Principal, args: FindWebhooks) -> FindWebhooks:
    """The search that a caller may make: of all webhooks, or of its own."""
    if caller.is_service or caller.has(MANAGE_WEBHOOKS):
        return args
    return msgspec.structs.replace(args, owner=caller.subject)


def find(args: FindWebhooks) -> Find:
    """What the store is asked for a search."""
    where: list[Condition] = [] if args.owner is None else [Compare(("owner",), "eq", args.owner)]
    return Find(And(tuple(where)), args.limit, AT)


def show(id: str, state: WebhookState, version: int) -> WebhookInfo:
    """The webhook as it is shown."""
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
    """What a merge patch changes."""
    return WebhookBody(**{name: getattr(state, name) for name in WebhookBody.__struct_fields__})


# How webhooks are searched for.
FIND = (FindWebhooks, find, show, (AT, ("owner", *AT)), restrict)
