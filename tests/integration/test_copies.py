"""Copies of a database: what they show, what they reveal, and what a restore refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import msgspec
import pyrage
import pytest

from aidevos.backup import manifest as manifests
from aidevos.backup import saving
from aidevos.backup.encryption import CopyKey
from aidevos.backup.errors import BackupError
from aidevos.backup.fleet_data import FleetData
from aidevos.backup.manifest import IDENTITY, MANIFEST, open_copy, part_name, write_manifest
from aidevos.backup.restoring import check_parts, restore_documents
from aidevos.backup.storage import Storage
from aidevos.contracts import subjects
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Claim, Commit, Outcome
from tests.support import copies
from tests.support.copies import document
from tests.support.objects import NoteStateV3, NoteV3
from tests.support.servers import Servers

COUNT = 500
# A copy in the first format, with documents of hosts that counted no turns and states of the first schema.
FORMAT_1 = Path(__file__).parents[1] / "vectors" / "copies" / "format-1"
OF_OLD_OWNER = ("by", "owner", "expected", "epoch", "turn", "partition", "created_at")


@pytest.fixture
def database_of(servers: Servers, database: str) -> Iterator[Any]:
    with copies.collections(servers, database) as found:
        yield found


@pytest.fixture
def fleet(servers: Servers, database: str) -> FleetData:
    return copies.fleet_of(servers, database)


@pytest.fixture
def filled(database_of: Any) -> Any:
    """A database with three collections of a fleet and one of somebody else."""
    return fill(database_of)


def fill(database: Any) -> Any:
    awkward = {"value": {"$set": 1, "a.b": [None, True, 2**62, 1.0, "$literal", {"$ref": "x"}]}}
    documents = [document(f"c{number}", state={"value": number}) for number in range(COUNT)]
    database.obj_counter.insert_many([*documents, document("odd", state=awkward, replies={"chosen": {"k": b"\0"}})])
    database.replies_counter.insert_one(
        {"_id": {"o": "c1", "k": "chosen-x"}, "record": {"p": b"1"}, "end": copies.MADE}
    )
    database.obj_cart.insert_one(document("1", version=9, outbox={"5": {"kind": "tell"}}, outbox_last=5, relay=True))
    database.somebody.insert_one({"_id": 1})
    return database


@pytest.fixture(scope="module")
def kept(servers: Servers, shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a database like `filled`. Tests change copies of it."""
    place = tmp_path_factory.mktemp("kept") / "copy"
    with copies.collections(servers, shared_database) as found:
        fill(found)
        copies.save(copies.fleet_of(servers, shared_database), place)
    return place


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "copy")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT"))
    yield "s3://bucket/some/where"
    server.stop()


def everything(database: Any) -> dict[str, list[dict[str, Any]]]:
    """Return all documents by collection, without what a restore renews."""
    found = {name: list(database[name].find(sort=[("_id", 1)])) for name in sorted(database.list_collection_names())}
    return {
        name: [{field: each[field] for field in each if field not in OF_OLD_OWNER} for each in documents]
        for name, documents in found.items()
        if documents
    }


def test_a_restored_database_has_every_document_and_no_other(filled: Any, fleet: FleetData, copy: Path) -> None:
    before = everything(filled)
    filled.obj_counter.delete_one({"_id": "c7"})
    filled.obj_counter.update_one({"_id": "c8"}, {"$set": {"state": {"value": -1}}})
    filled.obj_cart.insert_one(document("later"))
    filled.obj_unknown.insert_one(document("later"))
    filled.replies_counter.delete_many({})

    copies.restore(fleet, copy)

    assert everything(filled) == before


def test_a_restored_document_belongs_to_nobody_and_counts_on(filled: Any, fleet: FleetData, copy: Path) -> None:
    filled.obj_counter.update_one({"_id": "c1"}, {"$set": {"turn": 50, "epoch": 2}})

    copies.restore(fleet, copy)

    restored = filled.obj_counter.find_one({"_id": "c1"})
    assert (restored["turn"], restored["epoch"]) == (51, 4)
    assert restored["owner"] == restored["by"] != "host.1"
    assert restored["partition"] == subjects.partition("counter", "c1")
    assert "expected" not in restored


async def test_no_former_owner_can_write_a_restored_document(
    servers: Servers, fleet: FleetData, tmp_path: Path
) -> None:
    store = MongoStore(servers.mongo_url, fleet.database)
    await store.open("counter")
    old = (await store.claim("counter", [Claim("c", "old.1", 0)]))["c"]
    made = Commit("c", "old.1", old.turn + 1, "old.1.2", {"state": {"value": 1}, "version": 1}, ("deleted",), 100)
    assert await store.commit("counter", [made]) == [Outcome.APPLIED]
    copies.save(fleet, tmp_path / "copy")

    await asyncio.to_thread(copies.restore, fleet, tmp_path / "copy")

    restored = (await store.read("counter", ["c"]))["c"]
    late = [made._replace(expected=turn, commit=f"late.{turn}") for turn in range(1, restored.turn + 3)]
    assert set(await store.commit("counter", late)) == {Outcome.FENCED}
    assert await store.commit("counter", [made._replace(expected=1, founding=0)]) == [Outcome.EXISTS]
    assert (await store.claim("counter", [Claim("c", "new.1", 0)]))["c"].state == {"value": 1}
    store.close()


def test_a_copy_shows_one_moment_even_if_all_is_changed_meanwhile(
    filled: Any, fleet: FleetData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH", 20)
    before = everything(filled)
    changes: list[int] = []

    def change(count: int, size: int) -> None:
        changes.append(count)
        filled.obj_counter.update_many({}, {"$inc": {"version": 1}})
        filled.replies_counter.delete_many({})

    copies.save(fleet, tmp_path / "copy", on_copied=change)

    copies.restore(fleet, tmp_path / "copy")
    assert everything(filled) == before
    assert len(changes) > COUNT // 20


def test_a_copy_in_a_bucket_is_restored_like_one_in_a_folder(filled: Any, fleet: FleetData, s3: str) -> None:
    before = everything(filled)
    copies.save(fleet, s3)
    filled.obj_counter.delete_many({})

    copies.restore(fleet, s3)

    assert everything(filled) == before


def test_a_bucket_that_is_missing_is_said_in_one_line(fleet: FleetData, s3: str) -> None:
    with pytest.raises(BackupError, match=r"bucket does not exist$"):
        copies.save(fleet, "s3://missing/copy")


def test_a_copy_reveals_nothing_and_only_its_owner_reads_its_files(copy: Path, fleet: FleetData) -> None:
    files = sorted(copy.iterdir())
    content = b"".join(file.read_bytes() for file in files)

    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert {file.name for file in files} == {IDENTITY, MANIFEST, "00001.part", "00002.part", "00003.part"}
    for name in (b"counter", b"cart", b"admin", b"value"):
        assert name not in content


def test_a_copy_opens_only_with_its_passphrase(filled: Any, fleet: FleetData, tmp_path: Path) -> None:
    copies.save(fleet, tmp_path / "copy", recipients=())
    storage = Storage(str(tmp_path / "copy"))

    open_copy(storage, copies.unlock())

    with pytest.raises(BackupError, match="can't be opened with this AIDEVOS_BACKUP_PASSPHRASE"):
        open_copy(storage, copies.unlock("wrong"))


def test_a_copy_for_a_recipient_opens_with_its_identity(filled: Any, fleet: FleetData, tmp_path: Path) -> None:
    identity, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"# created: today\n{identity}\n")
    (tmp_path / "other").write_text(str(other))
    copies.save(fleet, tmp_path / "copy", recipients=[str(identity.to_public())])
    storage = Storage(str(tmp_path / "copy"))

    _, found = open_copy(storage, copies.unlock(identity=tmp_path / "identity"))

    assert sum(part.documents for part in found.parts) == COUNT + 3
    for wrong in (copies.unlock(identity=tmp_path / "other"), copies.unlock()):
        with pytest.raises(BackupError, match="can't be opened"):
            open_copy(storage, wrong)


def test_only_the_copy_with_the_fingerprint_is_accepted(filled: Any, fleet: FleetData, tmp_path: Path) -> None:
    first = copies.save(fleet, tmp_path / "copy")
    forged = copies.save(fleet, tmp_path / "forged")

    open_copy(Storage(first.place), copies.unlock_as_owner, first.fingerprint)

    with pytest.raises(BackupError, match="another copy"):
        open_copy(Storage(forged.place), copies.unlock_as_owner, first.fingerprint)


@pytest.mark.parametrize("name", [IDENTITY, MANIFEST, "00001.part", "00002.part", "00003.part"])
@pytest.mark.parametrize("change", ["flip", "cut", "remove", "lengthen"])
def test_a_changed_file_is_noticed_before_anything_is_restored(
    servers: Servers, shared_database: str, copy: Path, name: str, change: str
) -> None:
    file = copy / name
    content = bytearray(file.read_bytes())
    if change == "remove":
        file.unlink()
    else:
        content[len(content) // 2] ^= change == "flip"
        file.write_bytes({"flip": content, "cut": content[:-1], "lengthen": content + b"x"}[change])
    with copies.collections(servers, shared_database) as database:
        before = everything(database)

        with pytest.raises(BackupError):
            copies.restore(copies.fleet_of(servers, shared_database), copy)

        assert before
        assert everything(database) == before


def test_parts_that_were_exchanged_are_noticed_even_with_matching_hashes(fleet: FleetData, copy: Path) -> None:
    storage, key, manifest = copies.load_copy(copy)
    first, second = copy / part_name(0), copy / part_name(1)
    swapped = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swapped)
    one, two, *rest = manifest.parts
    exchanged = [
        msgspec.structs.replace(two, collection=one.collection),
        msgspec.structs.replace(one, collection=two.collection),
    ]
    (copy / MANIFEST).unlink()
    write_manifest(storage, key, msgspec.structs.replace(manifest, parts=[*exchanged, *rest]))

    with pytest.raises(BackupError, match="parts of the copy were exchanged"):
        copies.restore(fleet, copy)


def test_a_manifest_without_the_key_of_the_copy_is_no_manifest(copy: Path) -> None:
    storage, key, manifest = copies.load_copy(copy)
    forger = CopyKey.generate()
    forger.encrypt = key.encrypt  # type: ignore[method-assign]  # as if the public half had leaked
    write_manifest(storage, forger, manifest)

    with pytest.raises(BackupError, match="manifest of the copy was changed"):
        copies.load_copy(copy)


@pytest.mark.parametrize(
    "name", ["../obj_counter", "obj_../x", "system.users", "obj_counter\0", "admin.obj_counter", "obj_"]
)
def test_collections_that_no_fleet_has_are_refused(copy: Path, name: str) -> None:
    storage, key, manifest = copies.load_copy(copy)
    renamed = [msgspec.structs.replace(part, collection=name) for part in manifest.parts]
    write_manifest(storage, key, msgspec.structs.replace(manifest, parts=renamed))

    with pytest.raises(BackupError, match="which no fleet has"):
        copies.load_copy(copy)


@pytest.mark.parametrize(
    "fields",
    [
        {"_id": "a/../b"},
        {"_id": 7},
        {"state": [1]},
        {"turn": "7"},
        {"turn": 2**63 - 1},
        {"$where": 1},
        {"outbox": 1},
        {"a.b": 1},
    ],
)
def test_documents_of_another_shape_are_refused(
    database_of: Any, fleet: FleetData, tmp_path: Path, fields: dict[str, Any]
) -> None:
    database_of.obj_counter.insert_one(bson.raw_bson.RawBSONDocument(bson.encode(document("c") | fields)))
    copies.save(fleet, tmp_path / "copy")

    with pytest.raises(BackupError, match="the copy has an object"):
        copies.restore(fleet, tmp_path / "copy")


def test_a_copy_of_a_newer_format_asks_for_an_update(copy: Path) -> None:
    storage, key, manifest = copies.load_copy(copy)
    write_manifest(storage, key, msgspec.structs.replace(manifest, format=manifests.FORMAT + 1))

    with pytest.raises(BackupError, match="format 2, and this version of the product reads 1: update it"):
        copies.load_copy(copy)


def test_an_interrupted_backup_is_no_copy_and_is_begun_anew(filled: Any, fleet: FleetData, tmp_path: Path) -> None:
    def interrupt(count: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copies.save(fleet, tmp_path / "copy", on_copied=interrupt)
    with pytest.raises(BackupError, match="has no complete copy"):
        copies.load_copy(tmp_path / "copy")

    copies.save(fleet, tmp_path / "copy")

    copies.load_copy(tmp_path / "copy")


def test_a_copy_overwrites_nothing(copy: Path, fleet: FleetData, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")

    (tmp_path / "notes").chmod(0o755)

    with pytest.raises(BackupError, match="has a copy already"):
        copies.save(fleet, copy)
    with pytest.raises(BackupError, match=r"has other files, such as mine\.txt"):
        copies.save(fleet, tmp_path / "notes")
    assert stat.S_IMODE((tmp_path / "notes").stat().st_mode) == 0o755


def test_a_moment_that_the_server_has_forgotten_is_explained(
    servers: Servers, filled: Any, fleet: FleetData, tmp_path: Path
) -> None:
    fail = {"failCommands": ["find"], "errorCode": 239, "namespace": f"{fleet.database}.obj_counter"}
    filled.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fail)
    try:
        with pytest.raises(BackupError, match="minSnapshotHistoryWindowInSeconds"):
            copies.save(fleet, tmp_path / "copy")
    finally:
        filled.client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_all_sealing_keys_of_services_in_containers_are_kept(
    servers: Servers, fleet: FleetData, tmp_path: Path
) -> None:
    from aidevos.backup.home_keys import check_keys, read_keys, write_keys
    from aidevos.security.sealed import Sealer, split_keys

    home = tmp_path / "home"
    shutil.copytree(servers.home / "keys", home / "keys")
    for service, key in (("projects", b"p" * 32), ("events", b"e" * 32)):
        folder = home / "homes" / service / "keys"
        folder.mkdir(parents=True)
        (folder / "sealing.key").write_bytes(key)
    sealed = Sealer(servers.settings(home=home / "homes" / "events")).seal(b"secret", "test")

    keys = read_keys(home)
    check_keys(keys)
    other = tmp_path / "other"
    shutil.copytree(servers.home, other, ignore=shutil.ignore_patterns("mongo", "nats"))
    write_keys(other, keys, "their password")

    assert {b"p" * 32, b"e" * 32} <= set(split_keys(keys["sealing.key"]))
    assert Sealer(servers.settings(home=other)).open(sealed, "test") == b"secret"
    assert json.loads((other / "secrets.json").read_bytes())["admin_password"] == "their password"
    assert (other / "keys" / "signing.json").read_bytes() == (home / "keys" / "signing.json").read_bytes()


async def test_a_copy_of_an_earlier_version_is_restored_and_its_states_are_upcast(
    servers: Servers, database_of: Any, fleet: FleetData
) -> None:
    storage = Storage(str(FORMAT_1))
    key, found = open_copy(storage, copies.unlock(identity=FORMAT_1 / "owner.txt"))
    check_parts(storage, dict(enumerate(found.parts)))

    await asyncio.to_thread(restore_documents, fleet, storage, key, found)

    store = MongoStore(servers.mongo_url, fleet.database)
    claimed = await store.claim("note", [Claim(id, f"new.{id}", 0) for id in ("n1", "n2")])
    store.close()
    note = DurableObjectRegistry([NoteV3]).types["note"]
    states = {id: note.load_state(each.state or {}, each.schema) for id, each in claimed.items()}
    assert states["n1"] == NoteStateV3("tea for two", 3)
    assert claimed["n2"].alarms.keys() == {"tea"}
    assert [each["_id"] for each in database_of.replies_note.find()] == [{"o": "n1", "k": "chosen-x"}]
