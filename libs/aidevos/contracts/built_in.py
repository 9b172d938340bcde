"""The types that the product's own services host. Types of other services need other names."""

from __future__ import annotations

TYPES_OF = {
    "api_gateway": ("api_key", "idempotency_key", "key_holder", "quota", "rate_limits", "route"),
    "authentication": ("access_token", "audit", "auth", "confirmation", "mail", "recovery", "session"),
    "data_storage": ("collection", "collection_holder", "eraser", "indexer", "item", "item_version", "unique"),
    "events": ("dead_letter", "delivery", "replay", "webhook", "webhook_holder"),
    "objects": ("account", "chat_room", "counter"),
    "projects": ("departure", "project", "project_holder", "task"),
    "user_management": ("administrators", "role", "user"),
}
# The name of the service of each type, by the type's name.
BUILT_IN = {type: service for service, types in TYPES_OF.items() for type in types}
