"""The shards that each command of the store would reach in a sharded cluster, with `obj_*` sharded by hashed `_id`.

A command reaches one shard if it names one `_id`, and those of its documents if it names several. Everything else
reaches all shards: that is right for lists, searches and scans, and for the set-up of a type, but for nothing that is
done for single objects. `replies_*` and `history_*` may be sharded in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.monitoring import CommandListener, CommandStartedEvent

from aidevos.durable.store import codec
from aidevos.durable.store.conditions import EVERYTHING, Compare
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import FEW, Claim, Commit, CommitPoint, Find, Outcome, Store
from tests.support.servers import Servers

ONE, THOSE, ALL = "the shard of the document", "the shards of these documents", "all shards"
# Of a cursor: what its `find` has reached.
SAME = "the shards of its cursor"
NOW = datetime.now(UTC)

TARGETS: dict[str, dict[str, str]] = {
    "open": {
        "create obj_*": ALL,
        "listCollections": ALL,
        "createIndexes obj_*": ALL,
        "dropIndexes obj_*": ALL,
        "find replies_*": ALL,
        "createIndexes history_*": ALL,
        "upsert obj_* by _id": ONE,
        "find obj_* by _ids": THOSE,
        "delete obj_* by _ids": THOSE,
    },
    "claim": {"upsert obj_* by _id": ONE, "find obj_* by _ids": THOSE},
    "commit": {"upsert obj_* by _id": ONE},
    "clear_outboxes": {"update obj_* by _ids": THOSE},
    "read": {"find obj_* by _ids": THOSE},
    "list_page": {"find obj_*": ALL},
    "read_moment": {"ping": "no shard", "find obj_*": ALL, "getMore obj_*": SAME, "killCursors obj_*": SAME},
    "count_in_project": {"aggregate obj_*": ALL},
    "find": {"find obj_*": ALL, "getMore obj_*": SAME, "killCursors obj_*": SAME},
    "count": {"aggregate obj_*": ALL},
    "list_pending": {"find obj_*": ALL},
    "list_due": {"find obj_*": ALL},
    "purge": {"find obj_*": ALL, "delete history_*": ALL, "delete obj_* by _ids": THOSE},
    # Once per process and type.
    "archive": {"createIndexes replies_*": ALL, "upsert replies_* by _id": ONE},
    "read_archived": {"find replies_* by _ids": THOSE},
    # An object that is deleted has archived records only if many callers chose their own request IDs.
    "delete_archived": {"delete replies_*": ALL},
    "keep_versions": {"upsert history_* by _id": ONE, "delete history_*": ALL},
    "read_versions": {"find history_*": ALL},
    "ping": {"ping": "no shard"},
}


class Recorder(CommandListener):
    """The commands that the driver sent, except those of its log-in, which it shows to no listener."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, Mapping[str, Any]]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command:
            self._sent.append((event.command_name, event.command))

    def take_lines(self) -> set[str]:
        """Return the commands since the last call, in the form of `TARGETS`."""
        lines = {line for name, command in self._sent for line in _lines(name, command)}
        self._sent.clear()
        return lines

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


def _lines(name: str, command: Mapping[str, Any]) -> Iterator[str]:
    collection = command["collection"] if name == "getMore" else command[name]
    kind = f" {collection.partition('_')[0]}_*" if isinstance(collection, str) else ""
    if name in ("update", "delete"):
        for statement in command[f"{name}s"]:
            verb = "upsert" if statement.get("upsert") else name
            yield verb + kind + _by(statement["q"])
    elif name == "aggregate":
        yield name + kind + _by(command["pipeline"][0]["$match"])
    else:
        yield name + kind + _by(command.get("filter", {}))


def _by(filter: Mapping[str, Any]) -> str:
    id = filter.get("_id", {"$exists": True})
    if not isinstance(id, Mapping) or not any(key.startswith("$") for key in id):
        return " by _id"
    return " by _ids" if "$in" in id else ""


def target_of(line: str) -> str:
    if line == "ping":
        return "no shard"
    if line.startswith(("getMore", "killCursors")):
        return SAME
    return ONE if line.endswith(" by _id") else THOSE if line.endswith(" by _ids") else ALL


def calls(store: MongoStore) -> list[tuple[str, Awaitable[Any]]]:
    """Return calls of each method with everything that changes its commands, in the order in which they apply."""
    many = [f"id{number:03}" for number in range(FEW + 1)]
    state = {"state": codec.Encoded(codec.encode({"name": "x" * 100})), "project": "p"}
    gone = {"deleted": NOW, "history.first": 1}
    named = Compare(("name",), "eq", "x" * 100)
    return [
        ("open", store.open("thing", [("name",)], [("name", "more")], history=True)),
        # With more indexes than it declares, as an earlier version left it.
        ("open", store.open("thing", [("name",)])),
        ("claim", store.claim("thing", [Claim(id, f"{id}.1", 0) for id in many])),
        ("commit", store.commit("thing", [Commit(id, f"{id}.1", 2, id, state, ["deleted"], 200) for id in many])),
        ("commit", store.commit("thing", [Commit("new", "n.1", 1, "n", state | gone, [], 200, founding=0)])),
        ("clear_outboxes", store.clear_outboxes("thing", [CommitPoint(id, f"{id}.1", id) for id in many])),
        ("read", store.read("thing", many)),
        ("read", store.read("thing", many[:1])),
        ("list_page", store.list_page("thing", "", 1)),
        ("list_page", store.list_page("thing", "a", FEW + 1, "p", with_state=False)),
        ("read_moment", store.read_moment("thing", named, "a", FEW + 1, "p", size=100)),
        ("read_moment", store.read_moment("thing", EVERYTHING, "", 200, size=1_000_000)),
        ("count_in_project", store.count_in_project("thing", "p")),
        ("find", store.find("thing", Find(named, 1))),
        ("find", store.find("thing", Find(EVERYTHING, 200, ("name",), after=("a", "a"), size=FEW * 500))),
        ("find", store.find("thing", Find(EVERYTHING, 200, size=100))),
        ("count", store.count("thing", named)),
        ("list_pending", store.list_pending("thing", [0], "", 1)),
        ("list_pending", store.list_pending("thing", range(100), "a", 100)),
        ("list_due", store.list_due("thing", [0], 0.0, 1.0, 1)),
        ("list_due", store.list_due("thing", range(100), 0.0, 1.0, 100)),
        ("purge", store.purge("thing", [0], datetime(2100, 1, 1, tzinfo=UTC))),
        ("archive", store.archive("thing", "a", [("k", {}, NOW), ("l", {}, NOW)])),
        ("read_archived", store.read_archived("thing", [("a", "k"), ("a", "l")])),
        ("delete_archived", store.delete_archived("thing", "a")),
        ("keep_versions", store.keep_versions("thing", "a", [(1, {}, NOW)], 1)),
        ("read_versions", store.read_versions("thing", "a", 1, 2, 3)),
        ("ping", store.ping()),
    ]


async def test_every_command_of_the_store_reaches_the_shards_that_it_should(servers: Servers, database: str) -> None:
    methods = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    recorder = Recorder()
    store = MongoStore(servers.mongo_url, database, listeners=[recorder])
    sent: dict[str, set[str]] = {}
    for method, call in calls(store):
        result = await call
        assert method != "commit" or set(result) == {Outcome.APPLIED}
        sent.setdefault(method, set()).update(recorder.take_lines())
    store.close()

    assert sent.keys() == methods
    assert {method: {line: target_of(line) for line in lines} for method, lines in sent.items()} == TARGETS
