"""The part of the API's description that is about collections and their items."""

from __future__ import annotations

from aidevos.contracts import data, subjects

from .bodies import JSON_PATCH, MERGE_PATCH, NDJSON
from .openapi_parts import (
    CHANGE,
    CHANGING,
    COMMON,
    ETAG,
    LOCATION,
    READING,
    UNCHANGED,
    Json,
    content,
    given,
    operation,
    parameter,
    reference,
    schemas_of,
    sent,
)

TAG: Json = {"name": "data", "description": "Collections of documents"}
CONDITIONAL = (*CHANGE, 428)
GONE = {"204": {"description": "Gone"}}
ITEM = content("The item", reference("Item"), ETAG)
COLLECTION = content("The collection", reference("Collection"), ETAG)


def schemas() -> Json:
    return schemas_of(
        data.BulkResult,
        data.BulkResults,
        data.Collection,
        data.CollectionPage,
        data.Config,
        data.CreateItemBody,
        data.History,
        data.Item,
        data.ItemPage,
        data.ReplaceItemBody,
    )


def parameters() -> Json:
    name = parameter("collection", "path", f"^{data.COLLECTION_PATTERN}$", "The collection's name")
    id = parameter("item_id", "path", f"^{subjects.ID_PATTERN}$", "The item's ID in its collection")
    return {
        "collection": name,
        "item_id": id,
        "filter": parameter("filter", "query", None, 'A filter as JSON: `{"price": {"gte": 10}}`'),
        "item_sort": parameter("sort", "query", None, "Paths in `data`: `-price,name`"),
        "fields": parameter("fields", "query", None, "Paths in `data`, of which alone something is shown"),
        "count": parameter("count", "query", "^(true|false)$", "Whether to count all that fits"),
        "validate": parameter("validate", "query", "^(all|new)$", "Whether a schema is for existing items too"),
        "of_project": parameter("project", "query", f"^{subjects.ID_PATTERN}$", "Only what belongs to this project"),
        "version": parameter("version", "query", "^[0-9]{1,9}$", "An earlier version, from the history"),
    }


def paths() -> Json:
    collection = "/data/collections/{collection}"
    return {
        "/data/collections": {"get": _collections()},
        collection: _of_collection(
            get=_find(),
            put=_described(
                "configure_collection",
                "Make a collection, or change it",
                {"200": COLLECTION, "201": COLLECTION},
                CHANGE,
                ("validate", "Idempotency-Key", "If-Match", "If-None-Match", "Deadline"),
                reference("Config"),
            ),
            post=_create(),
            delete=_described("delete_collection", "End a collection and its items", GONE, CHANGE, ("If-Match",)),
        ),
        f"{collection}/config": _of_collection(
            get=_described(
                "read_collection",
                "Show a collection's configuration",
                {"200": COLLECTION, **UNCHANGED},
                COMMON,
                READING,
            )
        ),
        f"{collection}/export": _of_collection(get=_export()),
        f"{collection}/import": _of_collection(post=_import()),
        f"{collection}/{{item_id}}": _of_item(
            get=_described(
                "read_item",
                "Show an item",
                {"200": ITEM, **UNCHANGED},
                COMMON,
                ("version", "fields", "If-None-Match", "Deadline"),
            ),
            put=_described(
                "replace_item",
                "Replace an item, or make it with `If-None-Match: *`",
                {"200": ITEM, "201": ITEM},
                CONDITIONAL,
                ("Idempotency-Key", "If-Match", "If-None-Match", "Deadline"),
                reference("ReplaceItemBody"),
            ),
            patch=_patch(),
            delete=_described("delete_item", "End an item", GONE, CONDITIONAL, ("Idempotency-Key", "If-Match")),
        ),
        f"{collection}/{{item_id}}/history": _of_item(
            get=_described(
                "item_history",
                "An item's versions, the latest first",
                {"200": content("One page", reference("History"))},
                COMMON,
                ("limit", "cursor", "Deadline"),
            )
        ),
        f"{collection}/{{item_id}}/restore": _of_item(
            post=_described(
                "restore_item",
                "Give an item the data of an earlier version",
                {"200": ITEM},
                CONDITIONAL,
                ("version", "Idempotency-Key", "If-Match", "Deadline"),
            )
        ),
    }


def _of_collection(**operations: Json) -> Json:
    return {**given("collection"), **operations}


def _of_item(**operations: Json) -> Json:
    names = ("collection", "item_id")
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names], **operations}


def _described(
    operation_id: str,
    summary: str,
    responses: Json,
    failures: tuple[int, ...],
    parameters: tuple[str, ...],
    body: Json | None = None,
) -> Json:
    """An operation for which the collection's rules ask for a credential or don't."""
    described = operation(operation_id, "data", summary, responses, failures, parameters=parameters, body=body)
    return described | {"security": [{"bearer": []}, {}]}


def _collections() -> Json:
    page = {"200": content("One page", reference("CollectionPage"))}
    return _described(
        "list_collections", "Collections to know of", page, COMMON, ("limit", "cursor", "of_project", "Deadline")
    )


def _find() -> Json:
    return _described(
        "find_items",
        "Find items",
        {"200": content("One page", reference("ItemPage"))},
        COMMON,
        ("filter", "item_sort", "fields", "limit", "cursor", "count", "Deadline"),
    )


def _create() -> Json:
    return _described(
        "create_items",
        "Make an item, or each of a list",
        {
            "201": content("The item", reference("Item"), ETAG | LOCATION),
            "207": content("What became of each", reference("BulkResults")),
        },
        CHANGE,
        ("Idempotency-Key", "Deadline"),
        {
            "oneOf": [
                reference("CreateItemBody"),
                {"type": "array", "items": reference("CreateItemBody"), "maxItems": data.BULK_LIMIT},
            ]
        },
    )


def _patch() -> Json:
    described = _described(
        "patch_item",
        "Change an item by a patch (RFC 7396, RFC 6902)",
        {"200": ITEM},
        CONDITIONAL,
        CHANGING,
    )
    kinds = {MERGE_PATCH: {"schema": {}}, JSON_PATCH: {"schema": {"type": "array", "items": {"type": "object"}}}}
    return described | {"requestBody": {"required": True, "content": kinds}}


def _export() -> Json:
    lines = {"description": "One item a line", "content": {NDJSON: {"schema": {"type": "string"}}}}
    return _described("export_items", "All items, by their IDs", {"200": lines}, COMMON, ())


def _import() -> Json:
    lines = {"description": "One result a line", "content": {NDJSON: {"schema": {"type": "string"}}}}
    described = _described("import_items", "Make an item of each line", {"200": lines}, COMMON, ("Idempotency-Key",))
    return described | sent({"type": "string"}, NDJSON)
