"""`aidevos doctor` finds what is wrong with real servers, and says what to do. Each test makes the fault."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from aidevos.cli.doctor import backlog, clocks, collections, placement, processes, security, servers, streams
from aidevos.cli.doctor.command import examine
from aidevos.cli.doctor.finding import Finding
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts import subjects
from aidevos.durable.store.mongo import DUE, MongoStore
from tests.support.servers import Servers

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def examined(servers: Servers, database: str, **settings: Any) -> AsyncIterator[Patient]:
    patient = Patient(servers.settings("fleet", mongo_database=database, **settings))
    try:
        yield patient
    finally:
        await patient.close()


@pytest.fixture
async def patient(servers: Servers, database: str) -> AsyncIterator[Patient]:
    async with examined(servers, database) as patient:
        yield patient


@pytest.fixture
async def things(servers: Servers, database: str) -> AsyncIterator[Any]:
    """Open the collection of a type, as a host does."""
    store = MongoStore(servers.mongo_url, database)
    await store.open("thing")
    store.close()
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        yield client[database]


def statuses(findings: list[Finding]) -> set[str]:
    return {finding.status for finding in findings}


async def test_all_is_well_with_a_fleet_as_it_is_made(patient: Patient, things: Any) -> None:
    findings = await examine(
        patient,
        [
            streams.check_mapping,
            streams.check_streams,
            collections.check_collections,
            clocks.check_clocks,
            security.check_compressors,
            backlog.check_outboxes,
            backlog.check_alarms,
            backlog.check_dead_letters,
        ],
    )

    assert [finding for finding in findings if finding.status != "ok"] == []
    assert len(findings) == 8


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_server_that_is_lost_is_reported_once_and_hides_nothing(
    servers: Servers, patient: Patient, hangs: bool
) -> None:
    servers.mongo.pause() if hangs else servers.mongo.kill()
    began = time.monotonic()

    findings = await examine(patient)

    by_check = {finding.check: finding for finding in findings if finding.check != "versions"}
    versions = {finding.detail: finding.status for finding in findings if finding.check == "versions"}
    assert versions["MongoDB can't be reached"] == "error"
    assert versions["NATS 2.15.1"] == "ok"
    assert by_check["collections"].status == by_check["dead letters"].status == "skipped"
    assert by_check["mapping"].status == by_check["streams"].status == "ok"
    assert time.monotonic() - began < 15


async def test_without_a_fleet_it_says_so_and_checks_what_it_can(servers: Servers, tmp_path: Any) -> None:
    findings = await examine(Patient(servers.settings(home=tmp_path / "none", nats_url="", mongo_url="")))

    by_check = {finding.check: finding for finding in findings}
    assert by_check["processes"].status == "error"
    assert "make up" in by_check["processes"].advice
    assert by_check["mapping"].status == "skipped"
    assert by_check["disk"].status in ("ok", "warning", "error")


async def test_a_collection_without_its_fence_or_an_index_is_found(patient: Patient, things: Any) -> None:
    things.command("collMod", "obj_thing", validator={})
    things.obj_thing.drop_index(list(DUE.items()))

    found = await collections.check_collections(patient)

    assert [(finding.status, finding.detail.split(":")[0]) for finding in found] == [
        ("error", "obj_thing has another validator than this version sets"),
        ("warning", "obj_thing lacks the index partition+alarm_at"),
    ]


async def test_work_that_is_stuck_is_counted_by_type_with_samples(patient: Patient, things: Any) -> None:
    things.command("collMod", "obj_thing", validator={})
    now, late = datetime.now(UTC), time.time() - 3600
    things.obj_thing.insert_many(
        [{"_id": f"o{n}", "relay": True, "updated_at": LONG_AGO} for n in range(5)]
        + [{"_id": f"a{n}", "alarm_at": late} for n in range(2)]
        + [{"_id": "fresh", "relay": True, "updated_at": now}, {"_id": "soon", "alarm_at": time.time() + 60}]
    )
    things.obj_dead_letter.insert_many(
        [
            {"_id": "l1", "state": {"status": "dead", "kind": "tell"}},
            {"_id": "l2", "state": {"status": "replayed", "kind": "tell"}},
        ]
    )

    outboxes, alarms = await backlog.check_outboxes(patient), await backlog.check_alarms(patient)
    letters = await backlog.check_dead_letters(patient)

    assert [finding.detail for finding in outboxes] == ["5 of thing wait, such as o0, o1, o2"]
    assert [finding.detail for finding in alarms] == ["2 of thing wait, such as a0, a1"]
    assert [finding.detail for finding in letters] == ["1 of kind tell, such as l1"]
    assert statuses([*outboxes, *alarms, *letters]) == {"warning"}


async def test_a_full_stream_and_a_missing_one_are_found(
    servers: Servers, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = (await patient.nats()).jetstream()
    await js.add_stream(StreamConfig(name="SMALL", subjects=["small"], max_bytes=10_000, discard="new"))  # type: ignore[arg-type]
    try:
        with suppress(APIError):
            while True:
                await js.publish("small", b"x" * 300)
        monkeypatch.setattr(streams, "STREAMS", ("SMALL", "NOWHERE"))
        found = await streams.check_streams(patient)
    finally:
        await js.delete_stream("SMALL")

    assert statuses(found) == {"error"}
    assert "SMALL is 9" in found[0].detail
    assert found[1].detail == "NOWHERE is missing"


async def test_too_few_copies_of_a_stream_are_found(servers: Servers, database: str) -> None:
    async with examined(servers, database, stream_replicas=3) as patient:
        found = await streams.check_streams(patient)

    assert len(found) == len(streams.STREAMS)
    assert found[0].detail == "EVENTS has 1 copies, and AIDEVOS_STREAM_REPLICAS is 3"


async def test_a_server_without_the_mapping_is_found(
    servers: Servers, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_partitions(connection: Any) -> int:
        return 32

    # The server maps to 64.
    monkeypatch.setattr(streams, "read_partitions", read_partitions)

    (found,) = await streams.check_mapping(patient)

    assert found.status == "error"
    assert "partition(32" in found.detail


async def test_keys_of_hosts_that_are_gone_are_found(
    servers: Servers, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "LOOK_AGAIN", 0.0)
    partitions = await (await patient.nats()).jetstream().key_value(subjects.PLACEMENT_BUCKET)
    await partitions.put("a.3", b"objects-0_gone.00ff")
    try:
        (found,) = await placement.check_orphaned_keys(patient)
    finally:
        await partitions.purge("a.3")

    assert found.status == "warning"
    assert " a.3" in found.detail


async def test_a_wrong_clock_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    found = await clocks.check_clocks(patient)

    assert statuses(found) == {"error"}
    assert {finding.detail[:26] for finding in found} == {"the clock of MongoDB is 36", "the clock of NATS is 3600."}


async def test_a_user_with_a_weak_password_is_found(servers: Servers, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        client.admin.command("createUser", "weak", pwd="password1", roles=["root"])
        try:
            url = servers.mongo_url.replace("//fleet:", "//weak:password1@").replace(
                servers.mongo_url.split("//fleet:")[1].split("@")[0] + "@", "", 1
            )
            async with examined(servers, database, mongo_url=url) as patient:
                assert (await servers_versions(patient)) == set()
                (found,) = await security.check_passwords(patient)
        finally:
            client.admin.command("dropUser", "weak")

    assert found.status == "error"
    assert found.detail.startswith("that of MongoDB: ")
    assert "password1" not in found.detail


async def servers_versions(patient: Patient) -> set[str]:
    """Return the versions that can't be asked."""
    return {finding.detail for finding in await servers.check_versions(patient) if finding.status == "error"}


async def test_a_port_that_another_program_has_is_found(servers: Servers, tmp_path: Any) -> None:
    settings = servers.settings(home=tmp_path / "none", nats_url="", mongo_url="")
    port = int(servers.nats_url("fleet").rpartition(":")[2])
    patient = Patient(type(settings)(home=tmp_path / "none", nats_port=port))

    found = await processes.check_ports(patient)

    assert f"another program listens on {port}" in {finding.detail for finding in found}
