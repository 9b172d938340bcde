"""A NATS server that can't serve a fleet is refused with one line that says what to change."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import pytest
from nats.js.errors import BucketNotFoundError

from aidevos.contracts import subjects
from aidevos.durable.hosting.provision import (
    FORMER_BUCKET,
    FORMER_KEY,
    LETTER_MARGIN,
    PARTITIONS_KEY,
    events_stream,
    provision,
    read_partitions,
)
from aidevos.settings import SettingsError, load
from deploy.local import binaries, ports
from tests.support.servers import Servers, free_port


@contextmanager
def server(folder: Path, config: str) -> Iterator[str]:
    port = free_port()
    (folder / "nats.conf").write_text(f"port: {port}, host: 127.0.0.1\n{config}")
    command = [str(binaries.nats_server()), "--config", str(folder / "nats.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            ports.wait_for_port("127.0.0.1", port, lambda: None, 10)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()


async def test_a_server_without_the_mapping_is_told_the_line_to_add(tmp_path: Path) -> None:
    with server(tmp_path, f"jetstream {{ store_dir: '{tmp_path}' }}") as url:
        connection = await nats.connect(url)
        with pytest.raises(SettingsError, match="AIDEVOS_NATS_URL") as refused:
            await provision(connection, load({}))
        assert subjects.mappings_line(subjects.PARTITIONS) in str(refused.value)
        await connection.close()


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with server(tmp_path, subjects.mappings_line(subjects.PARTITIONS)) as url:
        connection = await nats.connect(url)
        with pytest.raises(SettingsError, match="JetStream"):
            await provision(connection, load({}))
        await connection.close()


async def test_provisioning_again_changes_bounds_and_keeps_events(servers: Servers) -> None:
    connection = await nats.connect(servers.nats_url("fleet"))
    js = connection.jetstream()
    await js.publish("event.counter.provisioned.incremented", b"{}")
    changed = servers.settings(events_max_age=3600.0)
    await provision(connection, changed)
    assert (await js.stream_info("EVENTS")).config.max_age == 3600.0
    assert (await js.get_last_msg("EVENTS", "event.counter.provisioned.incremented")).data == b"{}"
    await provision(connection, servers.settings())
    assert (await js.stream_info("EVENTS")).config.max_age == events_stream(servers.settings()).max_age
    await connection.close()


async def test_another_count_of_partitions_is_refused(servers: Servers) -> None:
    connection = await nats.connect(servers.nats_url("fleet"))
    bucket = await connection.jetstream().key_value(subjects.PLACEMENT_BUCKET)
    await bucket.put(PARTITIONS_KEY, b"32")

    with pytest.raises(SettingsError, match="32 partitions"):
        await provision(connection, servers.settings("fleet"))
    await bucket.put(PARTITIONS_KEY, str(subjects.PARTITIONS).encode())
    await provision(connection, servers.settings("fleet"))
    await connection.close()


async def test_a_tell_is_no_larger_than_what_its_dead_letter_may_be(tmp_path: Path) -> None:
    with server(
        tmp_path, f"{subjects.mappings_line(subjects.PARTITIONS)}\njetstream {{ store_dir: '{tmp_path}' }}"
    ) as url:
        connection = await nats.connect(url)
        await provision(connection, load({}))
        told = (await connection.jetstream().stream_info(subjects.TELLS_STREAM)).config
        assert told.max_msg_size == connection.max_payload - LETTER_MARGIN
        await connection.close()


async def test_what_an_earlier_version_kept_is_taken_over_and_removed(tmp_path: Path) -> None:
    mappings = subjects.mappings_line(32)
    with server(tmp_path, f"{mappings}\njetstream {{ store_dir: '{tmp_path}' }}") as url:
        connection = await nats.connect(url)
        js = connection.jetstream()
        former = await js.create_key_value(bucket=FORMER_BUCKET)
        await former.put(FORMER_KEY, b"32")
        await former.put("tally", b"objects-0_host.1234")
        await js.add_stream(name=subjects.TELLS_STREAM, subjects=[subjects.TELLS], retention="workqueue")
        await js.add_consumer(
            subjects.TELLS_STREAM, durable_name="tally", filter_subject="tell.tally.*.>", ack_policy="explicit"
        )

        await provision(connection, load({"AIDEVOS_PARTITIONS": "32"}))

        assert await read_partitions(connection) == 32
        assert await js.consumers_info(subjects.TELLS_STREAM) == []
        with pytest.raises(BucketNotFoundError):
            await js.key_value(FORMER_BUCKET)
        with pytest.raises(SettingsError, match="first started with 32 partitions"):
            await provision(connection, load({}))
        await connection.close()
